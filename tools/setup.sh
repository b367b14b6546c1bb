#!/usr/bin/env bash
# Make the virtual environment match pyproject.toml and requirements.lock; quick when it already does.
#   VENV=.venv        where; created when missing, never deleted
#   EXTRA=cuda        further extras of pyproject.toml to install (comma separated)
#   PYTHON=python3.12 which interpreter creates it; default: the newest usable one from 3.13 down to 3.11
set -euo pipefail
cd "$(dirname "$0")/.."
venv="${VENV:-.venv}"
extra="${EXTRA:-}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

step() { # step MESSAGE COMMAND...: one line when it goes well, the whole output when it does not
  local message="$1" begin=$SECONDS
  shift
  printf 'setup: %s ... ' "$message"
  if "$@" >"$log" 2>&1; then
    printf '%ds\n' $((SECONDS - begin))
  else
    printf 'failed\n'
    tail -n 40 "$log" >&2
    printf 'setup: this failed: %s\n' "$*" >&2
    exit 1
  fi
}

usable() { # a Python from 3.11 to 3.13 that can make virtual environments
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
    if usable "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  echo "setup: no usable Python among: ${PYTHON:-python3.13 python3.12 python3.11 python3}" >&2
  echo "setup: s5wm needs Python 3.11, 3.12 or 3.13 with its venv module (Debian, Ubuntu: apt install python3-venv)," >&2
  echo "setup: or name one: make setup PYTHON=/path/to/python3.12" >&2
  exit 1
}

create() {
  local python
  python="$(find_python)"
  step "virtual environment $venv ($("$python" --version))" "$python" -m venv "$venv"
}

pip() { "$venv/bin/python" -m pip "$@" --quiet --disable-pip-version-check --no-input; }

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  create
fi

# The stamp's name holds the hash of everything the environment is made from.
hash="$(cat pyproject.toml requirements.lock | "$venv/bin/python" -c \
  'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])')"
stamp="$venv/.s5wm-$hash"
if [ ! -e "$stamp" ]; then
  step "$(grep -c '==' requirements.lock) packages as pinned in requirements.lock (about 2 GB)" pip install --require-hashes -r requirements.lock
  step "s5wm itself, editable" pip install --no-deps -e .
  rm -f "$venv"/.s5wm-*
  touch "$stamp"
  printf 'setup: done; to use it in this shell: source %s/bin/activate\n' "$venv"
fi
if [ -n "$extra" ] && [ ! -e "$stamp-$extra" ]; then
  step "s5wm[$extra]" pip install -e ".[$extra]"
  touch "$stamp-$extra"
fi
