"""The verb that judges policies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction

from s5wm.cli.common import DONE, Verb, arg, print_json, table
from s5wm.cli.drawing import draw_flights
from s5wm.errors import ConfigError
from s5wm.runs.console import print_line

Json = Annotated[bool, arg(name="json", help="Print one JSON object on stdout.")]
RunName = Annotated[Positional[str], arg(metavar="RUN", help="A run directory, or pretrained/NAME.")]
Policy = Annotated[
    Literal["best", "latest"],
    arg(
        help="Which policy of a run: the best by evaluation, or the latest, that of the newest checkpoint.  What "
        "judges or exports a policy takes the best; view takes the latest, because only a checkpoint holds the whole "
        "world model."
    ),
]


@dataclass(frozen=True)
class Evaluate(Verb):
    """Evaluate a policy by the rules of its task; make a video.

    From the task's own start, with mean actions.  A run keeps its metrics, flights and their picture itself; those
    of a shipped policy, and of a task changed by --override, are kept with --out alone.
    Example: s5wm eval pretrained/split-s --override task.action_delay=0.02 --json
    """

    policy_run: RunName
    episodes: Annotated[int, arg(help="Number of episodes.")] = 100
    seed: Annotated[int, arg(help="Seed of the initial states.")] = 12345
    policy: Policy = "best"
    out: Annotated[
        Path | None,
        arg(metavar="PATH", help="Where eval.json, flights and their picture go, instead of into the run."),
    ] = None
    override: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            metavar="task.PATH=VALUE",
            help="Fly the same policy in a changed task, e.g. task.quad.name=kolibri or task.action_delay=0.02; may be "
            "repeated.",
        ),
    ] = ()
    perturb: Annotated[
        str | None,
        arg(
            metavar="SUITE",
            help="Instead, fly where something is not as it was in training (all, or one of start, mass, thrust, "
            "inertia, drag, motor, battery, delay, wind, noise, gates, map), at several strengths; with --out "
            "perturb.json and a heat map are kept.",
        ),
    ] = None
    video: Annotated[
        Path | None,
        arg(
            metavar="FILE",
            help="Write a video too, .gif or .mp4, of three episodes of an environment that renders.",
        ),
    ] = None
    json_: Json = False

    def run(self) -> int:
        """Evaluate."""
        if self.perturb is not None:
            if self.override:
                raise ConfigError("--perturb flies the task as it was trained: leave out --override")
            if self.video is not None:
                raise ConfigError("--perturb draws a heat map and films nothing: leave out --video")
            from s5wm.cli.robustness import report_perturbed
            from s5wm.experiments.perturb import perturb_run
            from s5wm.runs.directory import room_for_results

            if self.out is not None:
                room_for_results(self.out)
            metrics = perturb_run(
                self.policy_run,
                self.perturb,
                episodes=self.episodes,
                seed=self.seed,
                which=self.policy,
                log=print_line,
            )
            report_perturbed(metrics, self.out, as_json=self.json_)
            return DONE
        from s5wm.experiments.policies import evaluate_run, kept_in

        if self.video is not None:
            self._film(self.video)
        metrics = evaluate_run(
            self.policy_run,
            episodes=self.episodes,
            seed=self.seed,
            which=self.policy,
            out=self.out,
            overrides=self.override,
        )
        report(metrics, self.json_)
        folder = kept_in(self.policy_run, self.out, self.override)
        if folder is None:
            print_line("its metrics, flights and picture are not kept: name a folder for them with --out DIR")
        else:
            draw_flights(folder)
        return DONE

    def _film(self, file: Path) -> None:
        from s5wm.experiments.policies import film_run
        from s5wm.plots.video import check_video, write_video

        check_video(file)
        shots, seconds = film_run(
            self.policy_run, episodes=FILMED, seed=self.seed, which=self.policy, overrides=self.override
        )
        write_video(shots, seconds, file)
        print_line(f"{len(shots)} pictures of {FILMED} episodes: {file}")


FILMED = 3
"""Episodes of a video."""


def report(metrics: dict[str, Any], as_json: bool) -> None:
    """Print the metrics of an evaluation."""
    if as_json:
        print_json(metrics)
        return
    print(metrics["headline"])
    hidden = ("config", "task", "versions", "headline", "compared")
    shown = {k: v for k, v in metrics.items() if v is not None and k not in hidden}
    table([(k, f"{v:.4g}" if isinstance(v, float) else str(v)) for k, v in shown.items()])
