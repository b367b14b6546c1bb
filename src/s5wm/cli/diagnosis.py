"""Verbs that look for what is wrong: with the installation, with a run, with an environment."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from s5wm.acting import find
from s5wm.cli.common import DONE, Verb, print_json, table
from s5wm.errors import ConfigError

Json = Annotated[bool, arg(name="json", help="Print one JSON object on stdout.")]

DAMAGED = 65
UNSOUND = 1


@dataclass(frozen=True)
class Doctor(Verb):
    """Check the installation: versions, devices, memory, a compiled matrix product, a saved and restored array.

    Exit code 0 where all is well, 1 where something is not.
    Example: s5wm doctor
    """

    json_: Json = False

    def run(self) -> int:
        """Look."""
        from s5wm.health import examine

        found = examine()
        if self.json_:
            print_json(found)
        else:
            rows = {
                **found["versions"],
                **{k: v for k, v in found.items() if k not in ("versions", "problems")},
            }
            table([(name, str(value)) for name, value in rows.items()])
            table([("problem", text) for text in found["problems"]] or [("problems", "none")])
        return UNSOUND if found["problems"] else DONE


@dataclass(frozen=True)
class Verify(Verb):
    """Check that every file of a run, or of a shipped policy, is what was written.

    Exit code 0 where all is whole, 65 where something is damaged.
    Example: s5wm verify runs/first
    """

    run_dir: Annotated[Positional[str], arg(metavar="RUN", help="A run directory, or pretrained/NAME.")]
    json_: Json = False

    def run(self) -> int:
        """Read everything."""
        from s5wm.health import inspect_run

        folder = find(self.run_dir)
        parts = inspect_run(folder)
        damaged = [part for part, state in parts if not state.startswith("whole")]
        if self.json_:
            print_json({"run": str(folder), "whole": not damaged, "parts": dict(parts)})
        else:
            table(parts)
        return DAMAGED if damaged else DONE


@dataclass(frozen=True)
class CheckEnv(Verb):
    """Check an environment: spaces, types, resets, ends of episodes, determinism, numbers that are not finite.

    SPEC is a task of s5wm list, or module:name for a class or function of your own that makes an s5wm or a
    Gymnasium environment, or gymnasium:ID.  Code named here runs, in a process of its own; nothing else ever does.
    Exit code 0 where all is well, 1 where something is not.
    Example: s5wm check-env race/split-s
    """

    spec: Annotated[Positional[str], arg(metavar="SPEC", help="task, module:name or gymnasium:ID.")]
    steps: Annotated[int, arg(help="Steps to take with random actions.")] = 300
    env_timeout: Annotated[float, arg(help="Seconds that one call of the environment may take.")] = 60.0
    json_: Json = False

    def run(self) -> int:
        """Try it."""
        if self.steps < 2 or not self.env_timeout > 0:
            raise ConfigError(
                f"--steps is {self.steps} and --env-timeout {self.env_timeout}; give at least 2 and more than 0"
            )
        from s5wm.checkenv.child import check_in_child

        problems = check_in_child(self.spec, self.steps, self.env_timeout)
        if self.json_:
            print_json({"spec": self.spec, "sound": not problems, "problems": problems})
        else:
            table([("problem", text) for text in problems] or [(self.spec, "no problem found")])
        return UNSOUND if problems else DONE
