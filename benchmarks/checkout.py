"""The checkout that a benchmark belongs to; its source is what the benchmark imports, here and in processes of its own.

Every script imports ``ROOT`` from here before anything of ``s5wm``, so that the commit of its results is that of the
code that ran.  The commit is read once, here: a commit made while a script runs does not get into its results.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

sys.path.insert(0, str(ROOT / "src"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))

import s5wm  # noqa: E402 - found now
from s5wm.runs.provenance import commit  # noqa: E402

if not Path(s5wm.__file__).resolve().is_relative_to(ROOT / "src"):
    raise SystemExit(f"s5wm was imported from {s5wm.__file__}, and not from {ROOT / 'src'}")
commit()
