"""Verbs that look for what is wrong: with the installation, with a run, with an environment."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, UseAppendAction

from s5wm.cli.common import DONE, Verb, arg, print_json, table
from s5wm.errors import ConfigError

Json = Annotated[bool, arg(name="json", help="Print one JSON object on stdout.")]

DAMAGED = 65
UNSOUND = 1


@dataclass(frozen=True)
class Doctor(Verb):
    """Check the installation: versions, devices, memory, a checkpoint.

    Also a compiled matrix product, and a saved and restored array.

    Exit code 0 where all is well, 1 where something is not.
    Example: s5wm doctor
    """

    json_: Json = False

    def run(self) -> int:
        """Look."""
        from s5wm.diagnostics.health import examine

        found = examine()
        if self.json_:
            print_json(found)
        else:
            rows = {
                **found["versions"],
                **{k: v for k, v in found.items() if k not in ("versions", "problems")},
            }
            table([(name, _listed(value)) for name, value in rows.items()])
            table([("problem", text) for text in found["problems"]] or [("problems", "none")])
        return UNSOUND if found["problems"] else DONE


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Verify(Verb):
    """Check that every file of a run is what was written.

    Shipped policies are checked too.

    Exit code 0 where all is whole, 65 where something is damaged.
    Example: s5wm verify runs/first
    """

    run_dir: Annotated[Positional[str], arg(metavar="RUN", help="A run directory, or pretrained/NAME.")]
    json_: Json = False

    def run(self) -> int:
        """Read everything."""
        from s5wm.diagnostics.health import inspect_run
        from s5wm.experiments.trained import find

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
    """Check an environment, and say which agents can train on it.

    It looks at spaces, types, resets, ends of episodes, determinism, and numbers that are not finite.

    Also reports, for each agent, whether it can be trained on it, and why not.

    SPEC is a task of s5wm list, or module:name for a class or function of your own that makes an s5wm or a
    Gymnasium environment, or gymnasium:ID.  Code named here runs, in a process of its own; nothing else ever does.
    Exit code 0 where all is well, 1 where something is not.
    Example: s5wm check-env hover
    """

    spec: Annotated[Positional[str], arg(metavar="SPEC", help="task, module:name or gymnasium:ID.")]
    steps: Annotated[
        int,
        arg(
            help="Steps to take with random actions; where they end no episode and no time limit is known, 10,000."
        ),
    ] = 300
    env_timeout: Annotated[float, arg(help="Seconds that one call of the environment may take.")] = 60.0
    env_arg: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="NAME=VALUE", help="An argument of what makes the environment; may be repeated."),
    ] = ()
    privileged: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            metavar="KEY", help="A key of a Dict observation that is hidden from the policy; may be repeated."
        ),
    ] = ()
    json_: Json = False

    def run(self) -> int:
        """Try it."""
        if self.steps < 2 or not self.env_timeout > 0:
            raise ConfigError(
                f"--steps is {self.steps} and --env-timeout {self.env_timeout}; give at least 2 and more than 0"
            )
        from s5wm.checkenv.child import Question, check_in_child

        question = Question(
            spec=self.spec, steps=self.steps, env_args=self.env_arg, privileged=self.privileged
        )
        found = check_in_child(question, self.env_timeout)
        problems = found.problems
        if self.json_:
            agents = {agent: {"trains": not why, "why": why or None} for agent, why in found.agents.items()}
            print_json(
                {
                    "spec": self.spec,
                    "sound": not problems,
                    "problems": problems,
                    "environment": found.facts,
                    "agents": agents,
                }
            )
        else:
            table([("problem", text) for text in problems] or [(self.spec, "no problem found")])
            table([*found.facts.items(), *_verdicts(found.agents)])
        return UNSOUND if problems else DONE


def _verdicts(agents: dict[str, str]) -> list[tuple[str, str]]:
    """A row for those that can train, and one for each reason why others cannot."""
    by_reason: dict[str, list[str]] = {}
    for agent, why in agents.items():
        by_reason.setdefault(why, []).append(agent)
    return [
        ("cannot train", f"{', '.join(names)}: {why}") if why else ("can train", ", ".join(names))
        for why, names in by_reason.items()
    ]
