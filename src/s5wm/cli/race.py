"""The verb behind `make race`: training, evaluation, imagination and pictures in one go, with advice at the end."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from s5wm.cli.advice import Trained, advice
from s5wm.cli.common import DONE, Verb, arg
from s5wm.cli.drawing import draw, sketch
from s5wm.cli.evaluating import Json, report
from s5wm.errors import STOPPED, ConfigError
from s5wm.runs.console import print_line
from s5wm.runs.directory import CONFIG, RunDirectory
from s5wm.runs.log import read_rows

if TYPE_CHECKING:
    from s5wm.experiments.experiment import Experiment


@dataclass(frozen=True)
class Race(Verb):
    """Train S5WM on the Split-S and draw its flight, as make race does.

    Interrupted, the same command goes on where it stopped.
    Example: s5wm race --run runs/race
    """

    run_dir: Annotated[Path, arg(name="run", help="Run directory.")] = Path("runs/race")
    minutes: Annotated[
        float | None,
        arg(
            metavar="FLOAT",
            help="Budget in minutes, compiling and evaluating included; default: the preset's steps.",
        ),
    ] = None
    json_: Json = False

    def run(self) -> int:
        """Train or go on, evaluate, draw."""
        from s5wm.experiments.run import How, run_experiment

        if not run_experiment(
            race_experiment(self.run_dir, self.minutes),
            self.run_dir,
            How(on_evaluation=sketch, may_exit=True),
        ):
            print_line(f"stopped; the same command goes on ({self.run_dir})")
            return STOPPED
        from s5wm.diagnostics.run import imagine_run
        from s5wm.experiments.policies import evaluate_training

        metrics = evaluate_training(self.run_dir)
        print_line("comparing imagination with real flights ...")
        imagine_run(self.run_dir, warn=print_line)
        draw(self.run_dir)
        report(metrics, self.json_)
        print_line(
            "\n".join(["", f"Pictures: {self.run_dir / 'plots'}", *advice(_trained(self.run_dir, metrics))])
        )
        return DONE


def race_experiment(path: Path, minutes: float | None) -> "Experiment":
    """The race of `make race`; a run that exists in ``path`` resumes with this budget, and never with fewer steps."""
    from s5wm.experiments.configure import configure
    from s5wm.experiments.experiment import load_experiment

    fresh = configure("race/split-s", "s5wm", "cpu", seed=0, budget=(None, minutes), overrides=())
    if not RunDirectory(path).exists():
        return fresh
    begun, wanted = load_experiment(path / CONFIG, warn=print_line), fresh.train
    if begun.name != fresh.name:
        raise ConfigError(
            f"{path} is a training of {begun.name.task or 'another task'} by {begun.name.agent or 'another agent'}, "
            f"and s5wm race trains {fresh.name.task} by {fresh.name.agent}: name another --run, or use s5wm resume"
        )
    steps = begun.train.env_steps if begun.train.minutes is None else 0
    train = replace(begun.train, env_steps=max(steps, wanted.env_steps), minutes=wanted.minutes)
    return replace(begun, train=train)


def _trained(path: Path, metrics: dict[str, Any]) -> Trained:
    from s5wm.experiments.configure import configure

    rows = read_rows(RunDirectory(path).metrics)
    preset_steps = configure("race/split-s", "s5wm", "cpu", seed=0, budget=(None, None), overrides=())
    return Trained(
        path=path,
        metrics=metrics,
        env_steps=rows[-1]["env_steps"] if rows else 0,
        preset_steps=preset_steps.train.env_steps,
    )
