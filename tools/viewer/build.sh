#!/usr/bin/env bash
# Renew src/s5wm/viewer/static/library.{js,css,LICENSES.txt} from the versions in package.json.  Needs Node.js and npm.
set -euo pipefail
cd "$(dirname "$0")"
out="$(pwd)/../../src/s5wm/viewer/static"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cp package.json library.js "$work"
cd "$work"
npm install --silent --no-audit --no-fund
npx esbuild library.js --bundle --minify --format=iife --global-name=L --target=es2020 --charset=ascii \
  --legal-comments=none --outfile="$out/library.js"
cp node_modules/uplot/dist/uPlot.min.css "$out/library.css"
{
  for name in three uplot; do
    echo "== $name $(node -p "require('./node_modules/$name/package.json').version"), embedded in library.js"
    echo
    cat "node_modules/$name/LICENSE"
    echo
  done
} >"$out/library.LICENSES.txt"
