"""Verbs that look at runs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from s5wm.cli.common import DONE, Verb, arg, print_json, table
from s5wm.cli.drawing import draw, draw_futures, drawable
from s5wm.errors import ConfigError
from s5wm.runs.console import print_line
from s5wm.runs.datafile import SUFFIXES
from s5wm.runs.elapsed import elapsed


@dataclass(frozen=True)
class Plot(Verb):
    """Draw learning curves and flights of runs into plots/.

    Several runs are drawn into the same axes too.  A shipped policy is flown first, its flights and pictures go to
    a folder of its name in --out.  A folder that eval --out made is drawn too, and so is the file of a track
    (.json, .yaml).  Exit code 0 where something was drawn of each, 1 where nothing was there to draw, 65 where a
    file is damaged.
    Example: s5wm plot runs/first runs/second --out runs/plots
    """

    runs: Annotated[
        Positional[tuple[Path, ...]],
        arg(
            metavar="RUN ...",
            help="Run directories, pretrained/NAME, folders of eval --out, files of tracks.",
        ),
    ]
    out: Annotated[
        Path,
        arg(
            help="Folder for the curves of several runs together and for pictures of shipped policies and tracks."
        ),
    ] = Path("runs/plots")

    def run(self) -> int:
        """Draw."""
        if not self.runs:
            raise ConfigError("no run was given to draw; name at least one")
        tracks = [path for path in self.runs if path.suffix.lower() in SUFFIXES]
        folders = [drawable(path) for path in self.runs if path not in tracks]
        codes = [_draw_track(file, self.out) for file in tracks] + [self._draw(folder) for folder in folders]
        trained = [folder for folder in folders if (folder / "metrics.jsonl").is_file()]
        if len(trained) > 1:
            from s5wm.plots import plot_runs

            for picture in plot_runs(trained, self.out):
                print_line(f"drawn: {picture}")
        return max(codes)

    def _draw(self, folder: Path) -> int:
        from s5wm.experiments.trained import is_run

        if is_run(folder):
            return draw(folder)
        from s5wm.experiments.policies import evaluate_run

        flown = self.out / folder.name
        print_line(f"flying {folder.name} ...")
        print_line(evaluate_run(folder, out=flown)["headline"])
        return draw(flown)


def _draw_track(file: Path, out: Path) -> int:
    from s5wm.cli.tracks import draw_track

    return draw_track(file, out)


@dataclass(frozen=True)
class Imagine(Verb):
    """Open-loop prediction error against horizon, of one or more runs.

    On episodes of the run's own policy; several runs are measured on the same ones.  Of a run, the latest policy is
    measured, that of the newest checkpoint, which alone holds the whole world model.  A shipped policy holds what
    foresees its state, and neither reward nor termination; its pictures are kept with --out alone.
    Example: s5wm imagine runs/first --horizon 50 --json
    """

    runs: Annotated[
        Positional[tuple[Path, ...]],
        arg(metavar="RUN ...", help="Run directories or pretrained/NAME, of one task."),
    ]
    horizon: Annotated[int, arg(help="Steps to imagine.")] = 50
    episodes: Annotated[
        int, arg(help="Environments side by side, each for the longest length of an episode.")
    ] = 20
    out: Annotated[
        Path | None,
        arg(
            metavar="PATH",
            help="Of one run: a folder for its pictures, instead of the run's plots/.  Of several: their picture is "
            "this path with .png and .svg; default: runs/imagination.",
        ),
    ] = None
    all_: Annotated[bool, arg(name="all", help="Print every metric: rewards, passes, crashes, values.")] = (
        False
    )
    json_: Annotated[bool, arg(name="json", help="Print one JSON object on stdout.")] = False

    def run(self) -> int:
        """Imagine and compare."""
        for name, value in (("horizon", self.horizon), ("episodes", self.episodes)):
            if value < 1:
                raise ConfigError(f"--{name} is {value}; it must be at least 1")
        if not self.runs:
            raise ConfigError("no run was given to imagine with; name at least one")
        return self._one() if len(self.runs) == 1 else self._several()

    def _one(self) -> int:
        from s5wm.diagnostics.run import imagine_run
        from s5wm.experiments.trained import find

        run = self.runs[0]
        with elapsed(print_line, "compiling and imagining"):
            result = imagine_run(run, self.horizon, self.episodes, out=self.out, warn=print_line)
        if self.json_:
            print_json(result)
        else:
            print(_what_was_measured(result, result))
            table([*_errors(result), *([("", ""), *_by_horizon(result["metrics"])] if self.all_ else [])])
        if result["fans"] is not None or result["video_prediction"] is not None:
            draw_futures(find(run) if self.out is None else self.out)
        elif self.out is None and result["policy"] == "shipped":
            print_line("its pictures are not kept: name a folder for them with --out DIR")
        return DONE

    def _several(self) -> int:
        from s5wm.diagnostics.comparison import compare_imagination
        from s5wm.plots.foresight import draw_foresight
        from s5wm.plots.style import house_style, save_figure

        with elapsed(print_line, "compiling and imagining"):
            result = compare_imagination(self.runs, self.horizon, self.episodes, warn=print_line)
        if self.json_:
            print_json(result)
        else:
            for name, own in result["agents"].items():
                print(f"{name}: {_what_was_measured(own, result)}")
                table([*_errors({"horizon": result["horizon"], **own}), ("", "")])
        with house_style():
            for picture in save_figure(draw_foresight(result), self.out or Path("runs/imagination")):
                print_line(f"drawn: {picture}")
        return DONE


@dataclass(frozen=True)
class Compare(Verb):
    """Compare agents: a table over seeds, and one picture of curves.

    The table holds what all have trained for; an agent that has nothing in common with the others has its own budget.
    Runs of one agent with different settings are compared as different agents.
    Example: s5wm compare results/learning/race-split-s-*.json --out runs/comparison
    """

    runs: Annotated[
        Positional[tuple[Path, ...]],
        arg(
            metavar="RUN ...",
            help="Run directories, folders of seeds trained together, or files of results/learning, of one task.",
        ),
    ]
    over: Annotated[Literal["steps", "minutes"], arg(help="Compare within environment steps or minutes.")] = (
        "steps"
    )
    out: Annotated[Path, arg(help="Pictures go to this path with .png and .svg.")] = Path("runs/comparison")
    json_: Annotated[bool, arg(name="json", help="Print one JSON object on stdout.")] = False

    def run(self) -> int:
        """Compare."""
        if not self.runs:
            raise ConfigError("no runs were given to compare; name at least one")
        from s5wm.experiments.comparison import as_json, compare, markdown
        from s5wm.experiments.curves import runs_of
        from s5wm.experiments.trained import find
        from s5wm.plots.comparison import draw_comparison
        from s5wm.plots.style import house_style, save_figure

        named = [run for path in self.runs for run in runs_of(path)]
        found = compare([path if path.is_file() else find(path) for path in named], self.over)
        for line in found.left_out + found.notes:
            print_line(line)
        if self.json_:
            agents = {"agents": as_json(found.summaries), "left_out": found.left_out, "notes": found.notes}
            print_json({"task": found.task, "over": self.over, "budget": found.budget, **agents})
        else:
            print(markdown(found.task, found.summaries, self.over), end="")
        with house_style():
            for picture in save_figure(draw_comparison(found.task, found.groups, over=self.over), self.out):
                print_line(f"drawn: {picture}")
        return DONE


def _what_was_measured(own: Mapping[str, Any], flown: Mapping[str, Any]) -> str:
    trained = "" if own["env_steps"] is None else f" after {own['env_steps']:,} environment steps"
    return (
        f"the {own['policy']} policy and its world model{trained}, on {flown['episodes']} episodes, "
        f"{flown['steps']:,} steps together: the model sees an episode up to a moment, then predicts what follows "
        f"along the real actions (a step is {flown['ctrl_dt']:g} s); deviation: standard deviation of the real values"
    )


def _errors(result: dict[str, Any]) -> list[tuple[str, str]]:
    steps = [step for step in (1, 5, 10, 25, 50, 100) if step <= result["horizon"]]
    head = [f"{step:>8} steps" for step in steps]
    rows = [("median error after", "  ".join([*head, f"{'deviation':>14}"]))]
    for name, band in result["error"].items():
        medians = [band["median"][step - 1] for step in steps]
        shown = ["" if median is None else f"{median:.3g}" for median in medians]
        spread = band.get("deviation")
        shown.append("" if spread is None else f"{spread:.3g}")
        words = name.replace("_", " ")
        unit = f" ({band['unit']})" if band["unit"] else ""
        rows.append((f"{words}{unit}", "  ".join(f"{text:>14}" for text in shown).rstrip()))
    return rows


def _by_horizon(metrics: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """``name_5``, ``name_10``, ... in one row, other names in their own; unknown and repeated ones are left out."""
    rows: dict[str, dict[int, float]] = {}
    alone: list[tuple[str, str]] = []
    for name, value in metrics.items():
        if value is None or name.startswith("error/"):
            continue
        if found := re.fullmatch(r"(.+)[_/](\d+)", name):
            rows.setdefault(found[1], {})[int(found[2])] = value
        else:
            alone.append((name, f"{value:.4g}"))
    steps = sorted({step for row in rows.values() for step in row})
    head = ("after", "  ".join(f"{step:>8} steps" for step in steps))
    swept = [
        (name, "  ".join(f"{f'{row[step]:.3g}' if step in row else '':>14}" for step in steps))
        for name, row in rows.items()
    ]
    return [head, *swept, *alone]
