"""How far the world models of two trainings foresee the same flights, beside each other.

Writes ``results/foresight/TASK.json`` and the picture of the docs:

    python benchmarks/imagine.py runs/split-s runs/split-s-dreamerv3 [--horizon 50] [--episodes 20]
"""

import argparse
import json
from pathlib import Path

from s5wm.diagnose.beside import imagine_beside
from s5wm.plots.foresight import draw_foresight
from s5wm.plots.style import house_style, save_figure


def main() -> None:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--horizon", type=int, default=50)
    parser.add_argument("--episodes", type=int, default=20)
    options = parser.parse_args()
    result = imagine_beside(options.runs, options.horizon, options.episodes, say=print)
    name = result["task"].replace("/", "-")
    file = Path("results/foresight") / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    with house_style():
        drawn = save_figure(draw_foresight(result), Path(f"docs/images/foresight-{name}"))
    drawn[1].unlink()  # the pages show the PNG
    print(f"written: {file}, {drawn[0]}")


if __name__ == "__main__":
    main()
