"""The verb that writes an environment to start from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from s5wm.cli.common import DONE, Verb, arg
from s5wm.errors import ConfigError, WriteError
from s5wm.runs.console import print_line

TEMPLATE = Path(__file__).parents[1] / "templates" / "own_jax_env.py.txt"
NAME = "own_jax_env"


@dataclass(frozen=True)
class InitEnv(Verb):
    """Write a small environment of your own to start from.

    It trains as it is.

    Example: s5wm init-env my_env.py
    """

    path: Annotated[Positional[Path], arg(metavar="PATH", help="A new Python file, e.g. my_env.py.")]

    def run(self) -> int:
        """Write it, and print the next steps."""
        if self.path.suffix != ".py" or not self.path.stem.isidentifier():
            raise ConfigError(f"{self.path} cannot be imported; name a Python file such as my_env.py")
        if self.path.exists():
            raise ConfigError(f"{self.path} exists already; name a new file")
        module = self.path.stem
        try:
            self.path.write_text(TEMPLATE.read_text(encoding="utf-8").replace(NAME, module), encoding="utf-8")
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror or error}") from error
        where = "" if self.path.parent == Path() else f"cd {self.path.parent}; "
        print_line(f"{self.path} holds a ball on a beam. Check it, train on it, and make it yours:")
        print(f"  {where}s5wm check-env {module}:make")
        print(f"  {where}s5wm train {module}:make --minutes 5 --run runs/{module}")
        return DONE
