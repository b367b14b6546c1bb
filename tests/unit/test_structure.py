"""Properties of the source itself: what it imports, what it never calls, how long it is."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..conftest import ROUGH

SRC = Path(__file__).parents[2] / "src"
FILES = sorted((SRC / "s5wm").rglob("*.py"))

CORE = ("jax", "equinox", "optax", "numpy")

# The only modules that may need them at import.
OPTIONAL = ("s5wm.cli", "s5wm.__main__", "s5wm.plots", "s5wm.envs.gymnasium")

MAX_LINES = 320

IMPORT_EVERYTHING = """
import importlib, sys
from importlib.machinery import PathFinder

class CoreFinder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {blocked!r} else super().find_spec(name, path, target)

sys.meta_path[:] = [CoreFinder if finder is PathFinder else finder for finder in sys.meta_path]
failed = []
{then}
for name in {modules!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        failed.append(f"{{name}}: {{error}}")
sys.exit("\\n".join(failed) or 0)
"""


def distributions_of(roots: tuple[str, ...]) -> set[str]:
    """The roots and everything they need, as if nothing else were installed."""
    found: set[str] = set()
    queue = list(roots)
    while queue:
        name = canonicalize_name(queue.pop())
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                queue.append(requirement.name)
    return found


def outside_core() -> set[str]:
    """Top-level modules that are installed here and would not be with the core packages alone."""
    core = distributions_of(CORE)
    return {
        module
        for module, owners in metadata.packages_distributions().items()
        if module != "s5wm" and not any(canonicalize_name(owner) in core for owner in owners)
    }


def module_name(file: Path) -> str:
    parts = file.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_optional(module: str) -> bool:
    return any(module == name or module.startswith(name + ".") for name in OPTIONAL)


def import_without(blocked: set[str], modules: list[str], then: str = "") -> subprocess.CompletedProcess[str]:
    code = IMPORT_EVERYTHING.format(blocked=blocked, modules=modules, then=then)
    command = [sys.executable, "-c", code]
    environment = {
        "PATH": "",
        "PYTHONPATH": str(SRC),
        "JAX_PLATFORMS": "cpu",
        "HOME": str(Path.home()),
        **ROUGH,
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)


def test_core_imports_with_only_its_five_packages() -> None:
    blocked = outside_core()
    assert {"tyro", "matplotlib", "beartype", "pytest"} <= blocked
    modules = [name for name in map(module_name, FILES) if not is_optional(name)]
    result = import_without(blocked, modules)
    assert result.returncode == 0, result.stderr


TRAIN = """
import s5wm
tiny = ["train.num_envs=4", "train.rollout_length=8", "train.iterations_per_chunk=2", "train.eval_episodes=2"]
tiny += ["task.steps=10", "agent.units=4", "agent.layers=1", "agent.epochs=1", "agent.minibatches=2"]
run = s5wm.train("toy/double-integrator", agent="ppo", run={run!r}, env_steps=64, overrides=tiny)
assert run.evaluation is not None and run.metrics[-1]["env_steps"] == 64
agent = s5wm.load(run)
assert agent.act(__import__("numpy").zeros(2), agent.init())[0].shape == (1,)
"""


@pytest.mark.slow
def test_core_trains_with_only_its_five_packages(tmp_path: Path) -> None:
    result = import_without(outside_core(), [], TRAIN.format(run=str(tmp_path / "run")))
    assert result.returncode == 0, result.stderr


def test_the_block_of_the_test_above_works() -> None:
    result = import_without({"equinox"}, ["s5wm.types"])
    assert result.returncode != 0
    assert "No module named 'equinox'" in result.stderr


def calls(tree: ast.AST) -> list[str]:
    """Dotted names of everything called."""
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def imports(tree: ast.AST) -> list[str]:
    """Dotted names of everything imported."""
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return plain + [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "os.system"}


def unsafe(source: str) -> list[str]:
    """Everything in the source that could run code hidden in data."""
    tree = ast.parse(source)
    found = [name for name in imports(tree) if name.split(".")[0] in UNSAFE_MODULES]
    found += [name for name in calls(tree) if name in UNSAFE_CALLS]
    allowed = [
        "allow_pickle"
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False"
    ]
    return found + allowed


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_no_data_is_ever_run(file: Path) -> None:
    assert unsafe(file.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "yaml.load(f)",
        "np.load(f, allow_pickle=True)",
        "__import__('os')",
    ],
)
def test_unsafe_code_would_be_found(source: str) -> None:
    assert unsafe(source)


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_a_file_has_one_subject(file: Path) -> None:
    lines = len(file.read_text().splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: a longer file has two subjects, split it"
