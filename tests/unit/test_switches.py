"""Switches of JAX and XLA, and the environment of scripts and clusters: each works, or is refused by name.

docs/reliability.md has the table.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import s5wm as s5wm_package
from s5wm.cli import CLOSED_PIPE
from s5wm.distributed.switches import device_problem
from s5wm.errors import ConfigError

from ..conftest import ROUGHLY

TINY = [
    *("train.num_envs=4", "train.rollout_length=8", "train.iterations_per_chunk=2", "train.eval_episodes=2"),
    *("task.steps=10", "agent.units=4", "agent.layers=1", "agent.epochs=1", "agent.minibatches=2"),
]
OVERRIDES = [word for item in TINY for word in ("--override", item)]

SECONDS = 3.0
"""Of the processor, within which what does not work is refused."""


def environment(**changes: str | None) -> dict[str, str]:
    """That of this process with some variables changed, or taken out."""
    path = os.pathsep.join(p for p in sys.path if p)
    whole = os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "S5WM_CACHE": "off"} | changes
    return {name: value for name, value in whole.items() if value is not None}


def s5wm(*arguments: str, **how: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "s5wm", *arguments]
    given = {"env": environment(), "capture_output": True, "text": True, "check": False, "timeout": 600}
    return subprocess.run(command, **(given | how))


REFUSED = {
    "JAX_ENABLE_X64": ("1", "float32"),
    "JAX_DISABLE_JIT": ("1", "compiled program"),
    "JAX_DEBUG_KEY_REUSE": ("1", "used twice"),
    "JAX_TRANSFER_GUARD": ("disallow", "set it to log"),
    "JAX_DEFAULT_MATMUL_PRECISION": ("sloppy", "JAX refuses"),
    "JAX_DEFAULT_PRNG_IMPL": ("dice", "JAX refuses"),
    "JAX_DEBUG_NANS": ("perhaps", "JAX refuses"),
    "JAX_PLATFORMS": ("potato", "not in the list of known backends"),
    "XLA_FLAGS": ("--xla_no_such_flag=1", "Unknown flag"),
    "S5WM_CACHE": ("of", "give off, or an absolute path"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_work_is_refused_by_name(name: str, tmp_path: Path) -> None:
    value, reason = REFUSED[name]
    begun = os.times()
    done = s5wm("eval", "pretrained/split-s", env=environment(**{name: value}), cwd=tmp_path)
    ended = os.times()
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("s5wm: ")
    assert name in last and value in last.replace("True", "1") and reason in last
    assert any(fix in last for fix in ("unset", "set it to", "give off"))
    assert ended.children_user - begun.children_user < SECONDS + 1.0  # a loaded machine counts more


def test_a_platform_that_is_not_here_is_diagnosed_at_once(tmp_path: Path) -> None:
    if any(Path("/dev").glob("nvidia*")):
        pytest.skip("this machine has an NVIDIA GPU")
    done = s5wm(
        "doctor", "--json", env=environment(JAX_PLATFORMS="cuda")
    )  # CUDA itself may take minutes to say so
    assert done.returncode == 1, done.stderr
    (problem,) = json.loads(done.stdout)["problems"]
    assert "JAX_PLATFORMS is 'cuda'" in problem and "no NVIDIA GPU" in problem and "unset" in problem
    assert device_problem(tmp_path) is None  # here, of the CPU


def test_python_refuses_what_the_command_line_refuses(x64: None) -> None:
    for call in (lambda: s5wm_package.make("hover"), lambda: s5wm_package.train("hover", agent="ppo")):
        with pytest.raises(ConfigError, match="JAX_ENABLE_X64 is True: s5wm computes in float32"):
            call()


TOGETHER = {
    "precision and checks": {
        "JAX_DEBUG_NANS": "1",
        "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_TRANSFER_GUARD": "log",
        "JAX_LOG_COMPILES": "1",
        "JAX_TRACEBACK_FILTERING": "off",
    },
    "keys and devices": {
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_THREEFRY_PARTITIONABLE": "0",
        "JAX_DEFAULT_DEVICE": "cpu",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_DEBUG_INFS": "1",
    },
    "no place to write": {
        "HOME": "/proc",
        "XDG_CACHE_HOME": None,
        "S5WM_CACHE": None,
        "JAX_COMPILATION_CACHE_DIR": None,
        "MPLCONFIGDIR": None,
        "JAX_CHECK_TRACER_LEAKS": "1",
        "LC_ALL": "C",
        "TERM": None,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TOGETHER)
def test_what_works_trains_and_evaluates(name: str, tmp_path: Path) -> None:
    environ = environment(**TOGETHER[name])
    environ["XLA_FLAGS"] = f"{environ.get('XLA_FLAGS', '')} {ROUGHLY}"  # quicker
    command = ["train", "toy/double-integrator", "--agent", "ppo", "--env-steps", "128", *OVERRIDES]
    done = s5wm(*command, "--run", str(tmp_path / "run"), "--json", env=environ)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    if name == "no place to write":  # the others change nothing that is written or read
        done = s5wm("eval", str(tmp_path / "run"), "--json", env=environ)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["return_nominal"] == metrics["return_nominal"]
    assert metrics["episodes"] > 0 and math.isfinite(metrics["return_nominal"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["crayon", "module://matplotlib_inline.backend_inline", "tkagg"])
def test_pictures_are_drawn_whatever_the_backend(backend: str, tmp_path: Path) -> None:
    results = sorted((Path(__file__).parents[2] / "results" / "learning").glob("race-split-s-ppo-*.json"))
    command = ["compare", *map(str, results), "--out", str(tmp_path / "drawn"), "--json"]
    done = s5wm(*command, env=environment(MPLBACKEND=backend))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "drawn.png").is_file()


SURROUNDINGS = {
    "one column": {"COLUMNS": "1"},
    "no terminal": {"TERM": None, "COLUMNS": None},
    "dumb terminal": {"TERM": "dumb"},
    "C": {"LC_ALL": "C"},
    "POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "Latin 1": {"PYTHONIOENCODING": "latin-1"},
    "no home": {"HOME": None},
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_help_and_lists_are_printed_anywhere(name: str) -> None:
    environ = environment(**SURROUNDINGS[name])
    for command in (["--help"], ["list"], ["list", "--help"]):
        done = s5wm(*command, env=environ)
        assert done.returncode == 0, done.stderr
        assert done.stdout and not done.stderr


@pytest.mark.slow
def test_long_help_fits_into_one_column() -> None:
    done = s5wm("train", "--help", env=environment(COLUMNS="1"))
    assert done.returncode == 0, done.stderr
    assert "Example: s5wm train" in " ".join(done.stdout.split())


@pytest.mark.parametrize("command", ["--help", "list", "list --help"])
@pytest.mark.parametrize("lines", [0, 1])
def test_a_reader_that_goes_away_is_no_error(command: str, lines: int) -> None:
    program = [sys.executable, "-m", "s5wm", *command.split()]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, env=environment(), stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        for _ in range(lines):
            process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode in (0, CLOSED_PIPE)
    assert said == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m s5wm list {closed}'],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
