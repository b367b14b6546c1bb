"""Properties of the source itself: what it imports, what it never calls, how long it is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
FILES = sorted((SRC / "s5wm").rglob("*.py"))

# Installed with s5wm for the command line and pictures, or extras: the core must do without.
BLOCKED = ("tyro", "rich", "matplotlib", "PIL", "tensorboardX", "gymnasium", "scipy.io", "pandas", "torch")

# The only modules that may need them at import.
OPTIONAL = ("s5wm.cli", "s5wm.__main__", "s5wm.plots", "s5wm.envs.gymnasium")

MAX_LINES = 320

IMPORT_EVERYTHING = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in {blocked!r} or name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked in this test", name=name)

sys.meta_path.insert(0, Blocked())
failed = []
for name in {modules!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        failed.append(f"{{name}}: {{error}}")
sys.exit("\\n".join(failed) or 0)
"""


def module_name(file: Path) -> str:
    parts = file.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_optional(module: str) -> bool:
    return any(module == name or module.startswith(name + ".") for name in OPTIONAL)


def import_without(blocked: tuple[str, ...], modules: list[str]) -> subprocess.CompletedProcess[str]:
    code = IMPORT_EVERYTHING.format(blocked=blocked, modules=modules)
    command = [sys.executable, "-c", code]
    environment = {"PATH": "", "PYTHONPATH": str(SRC), "JAX_PLATFORMS": "cpu", "HOME": str(Path.home())}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_core_imports_with_only_its_five_packages() -> None:
    modules = ["s5wm", *(module_name(file) for file in FILES)]
    result = import_without(BLOCKED, [name for name in modules if not is_optional(name)])
    assert result.returncode == 0, result.stderr


def test_the_block_of_the_test_above_works() -> None:
    result = import_without(("equinox",), ["s5wm.types"])
    assert result.returncode != 0
    assert "equinox is blocked" in result.stderr


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
