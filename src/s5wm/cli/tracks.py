"""Tracks of the race: checked and drawn.  No other module of the command line imports the race."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from s5wm.cli.common import DONE, Verb, arg, print_json, table
from s5wm.cli.diagnosis import UNSOUND, Json
from s5wm.runs.console import print_line


@dataclass(frozen=True)
class CheckTrack(Verb):
    """Check a track of your own: gates in the way or out of reach.

    It finds gates in each other's way, in the ground, out of the box or out of reach.  FILE is JSON, or YAML where
    PyYAML is installed; examples/tracks has one.  Fly it with --override task.track=file:FILE, draw it with s5wm
    plot FILE.  Exit code 0 where all is well, 1 where something is not.
    Example: s5wm check-track examples/tracks/backyard.json
    """

    file: Annotated[Positional[Path], arg(metavar="FILE", help="The track.")]
    json_: Json = False

    def run(self) -> int:
        """Look."""
        from s5wm.envs.racing.checktrack import track_problems
        from s5wm.envs.racing.trackfile import load_track

        track = load_track(self.file)
        problems = list(track_problems(track))
        facts = {"track": track.name, "gates": len(track.gates), "sound": not problems, "problems": problems}
        if self.json_:
            print_json(facts)
        else:
            fine = (track.name, f"{len(track.gates)} gates, no problem found")
            table([("problem", text) for text in problems] or [fine])
        return UNSOUND if problems else DONE


def draw_track(file: Path, out: Path) -> int:
    """Draw the file of a track into ``out``; the exit code."""
    from s5wm.envs.racing.trackfile import load_track
    from s5wm.plots.track import plot_track
    from s5wm.runs.flights import track_geometry

    track = load_track(file)
    for picture in plot_track(track_geometry(track.build()), track.name, out / file.stem):
        print_line(f"drawn: {picture}")
    return DONE
