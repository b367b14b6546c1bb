"""The scripts in benchmarks/: each answers --help, and imports the source of its own checkout."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

ASKED = """
import contextlib, importlib.util, io, sys
from pathlib import Path
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
for file in sorted(folder.glob("*.py")):
    text = file.read_text()
    if "def main" not in text or ("selenium" in text and not importlib.util.find_spec("selenium")):
        continue
    spec = importlib.util.spec_from_file_location(f"benchmark_{file.stem}", file)
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # dataclasses look there
    spec.loader.exec_module(script)
    sys.argv = [str(file), "--help"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            script.main()
    except SystemExit as end:
        assert not end.code and "usage:" in said.getvalue(), file
    else:
        raise AssertionError(f"{file} does not answer --help")
    print(file.stem)
import s5wm
print(s5wm.__file__)
"""


def test_every_benchmark_answers_help_from_the_source_of_its_checkout() -> None:
    # In one process, as each would import JAX anew.
    done = subprocess.run(
        [sys.executable, "-c", ASKED, str(ROOT / "benchmarks")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *scripts, imported = done.stdout.split()
    assert len(scripts) >= 18
    assert Path(imported).is_relative_to(ROOT / "src")
