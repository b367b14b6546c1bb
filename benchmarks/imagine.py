"""How far the world models of two trainings foresee the same flights, beside each other.

Writes ``results/foresight/TASK.json`` and the picture of the docs:

    python benchmarks/imagine.py runs/split-s runs/split-s-dreamerv3 [--horizon 50] [--episodes 20]

Without runs it draws again what was measured.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from checkout import ROOT

from s5wm.diagnostics.comparison import compare_imagination
from s5wm.plots.foresight import draw_foresight
from s5wm.plots.style import house_style, save_figure

FOLDER = ROOT / "results/foresight"


def main() -> None:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--horizon", type=int, default=50)
    parser.add_argument("--episodes", type=int, default=20)
    options = parser.parse_args()
    if not options.runs:
        for file in sorted(FOLDER.glob("*.json")):
            draw(json.loads(file.read_text()))
        return
    result = compare_imagination(options.runs, options.horizon, options.episodes, warn=print)
    file = FOLDER / f"{name_of(result)}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {file}")
    draw(result)


def name_of(result: dict[str, Any]) -> str:
    """Of its files."""
    return result["task"].replace("/", "-")


def draw(result: dict[str, Any]) -> None:
    """The picture of the docs."""
    with house_style():
        drawn = save_figure(draw_foresight(result), ROOT / f"docs/images/foresight-{name_of(result)}")
    drawn[1].unlink()  # the pages show the PNG
    print(f"written: {drawn[0]}")


if __name__ == "__main__":
    main()
