"""What a start costs before anything is computed: help, lists and ``import s5wm`` wait for no JAX and no Gymnasium."""

import json
import os
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path

import pytest

from s5wm.cli import VERBS
from s5wm.experiments import names
from s5wm.experiments.presets import TASKS, presets, shows_images
from s5wm.experiments.presets.sizes import AGENTS, VISION_AGENTS
from s5wm.runs.elapsed import elapsed

ROOT = Path(__file__).parents[2]
COMMANDS = [["--help"], ["--version"], ["list"], ["list", "--json"], *([verb, "--help"] for verb in VERBS)]

HEAVY = ("jax", "equinox", "gymnasium", "matplotlib", "numpy")


def python(code: str) -> str:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("commands", [[], COMMANDS[:1], COMMANDS], ids=["import", "help", "all"])
def test_neither_help_nor_lists_load_what_computes(commands: list[list[str]]) -> None:
    code = "import s5wm, sys, time\n"
    if commands:
        code += "from s5wm.cli import main\n"
    for command in commands:
        code += f"try:\n    main({command})\n"
        code += "except SystemExit as end:\n    assert end.code == 0\n"
    seconds = max(0.5, 0.1 * len(commands))
    code += f"print([name for name in {HEAVY} if name in sys.modules], time.process_time() < {seconds})"
    assert python(code).splitlines()[-1] == "[] True"


def test_names_are_those_of_what_they_stand_for() -> None:
    assert tuple(TASKS) == names.TASKS
    assert {task for task in TASKS if shows_images(TASKS[task]())} == set(names.IMAGE_TASKS)
    assert {agent: tuple(sizes) for agent, sizes in AGENTS.items()} == names.STATE_AGENTS
    assert {agent: tuple(sizes) for agent, sizes in VISION_AGENTS.items()} == names.IMAGE_AGENTS
    assert names.presets() == list(presets())


@pytest.mark.parametrize("verb", VERBS)
def test_the_overview_says_of_a_verb_what_it_says_itself(verb: str) -> None:
    said = VERBS[verb].load().__doc__
    assert said is not None
    assert said.split("\n")[0] == VERBS[verb].summary


def test_recorded_starts_are_as_quick_as_we_say() -> None:
    """Of ``benchmarks/startup.py``, in seconds of the processor."""
    recorded = json.loads((ROOT / "results" / "startup" / "cpu.json").read_text())["results"]
    taken = {(row["command"], row["cache"]): row["cpu_s"] for row in recorded}
    assert taken["import s5wm", "none"] < 0.15
    assert all(seconds < 0.5 for (_, cache), seconds in taken.items() if cache == "none")
    firsts = {command: seconds for (command, cache), seconds in taken.items() if cache == "empty"}
    assert [command.split()[1] for command in firsts] == ["eval", "train", "imagine"]
    for command, first in firsts.items():
        assert taken[command, "filled"] <= 0.35 * first


def test_the_version_is_that_of_the_package() -> None:
    assert python("from s5wm.cli import main; main(['--version'])") == f"s5wm {version('s5wm')}\n"


@pytest.mark.parametrize(
    "order", [("s5wm", "gymnasium"), ("gymnasium", "s5wm"), ("s5wm", "s5wm", "gymnasium")]
)
def test_gymnasium_knows_our_ids_in_either_order(order: tuple[str, ...]) -> None:
    pytest.importorskip("gymnasium")
    imports = "".join(f"import {name}\n" for name in order)
    code = imports + "import sys\nimport importlib; importlib.reload(s5wm)\n"
    code += "print(sorted(name for name in gymnasium.registry if name.startswith('s5wm/')))\n"
    code += "print(sum('gym_ids' in type(each).__module__ for each in sys.meta_path))"
    ids, waiting = python(code).splitlines()
    assert ids == str(["s5wm/Figure8-v0", "s5wm/Figure8State-v0", "s5wm/Hover-v0", "s5wm/SplitS-v0"])
    assert waiting == "0"


@pytest.mark.parametrize(("own", "level"), [(None, "3"), ("0", "0")])
def test_alarms_of_the_compiler_are_not_for_users_unless_they_ask(own: str | None, level: str) -> None:
    """XLA reads this when JAX is imported: 3 leaves out what it calls errors, and not what ends a process."""
    code = f"import os, sys\nimport s5wm.cli as cli\nown, name = {own!r}, 'TF_CPP_MIN_LOG_LEVEL'\n"
    code += "os.environ.pop(name, None)\n"
    code += "os.environ.update({} if own is None else {name: own})\n"
    code += "cli.check_imports = lambda: print('jax' in sys.modules, os.environ[name]) or sys.exit()\n"
    code += "cli.main(['eval', 'nowhere'])"
    assert python(code) == f"False {level}\n"


def test_what_takes_long_says_how_long() -> None:
    said: list[str] = []
    told = threading.Event()

    def log(text: str) -> None:
        said.append(text)
        told.set()

    with elapsed(log, "compiling", every=0.01):
        assert told.wait(10)
    count = len(said)
    assert said[0] == "compiling: 0 s so far"
    with elapsed(log, "quick"):
        pass
    assert len(said) == count
