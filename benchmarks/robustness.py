"""Flies policies where the world is not as in training, and writes ``results/robustness/<policy>.json``.

    python benchmarks/robustness.py [pretrained/split-s ... | RUN ...] [--episodes 32]

A policy is a shipped one or a run; the file has the name of its last folder, and a picture of that name in docs/images
is drawn anew.  The policy ``split-s-ppo`` of the table is a run:

    s5wm train race/split-s --agent ppo --run runs/split-s-ppo
"""

import argparse
from pathlib import Path

from checkout import ROOT

from s5wm.experiments.perturb import ALL, perturb_run
from s5wm.experiments.policies import FINAL_SEED
from s5wm.plots.robustness import draw_robustness
from s5wm.plots.style import house_style
from s5wm.runs.files import write_json

POLICIES = ("split-s", "split-s-robust", "figure-8-state", "figure-8-state-robust")


def main() -> None:
    """Every suite at every strength, one policy after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("policies", nargs="*", default=[f"pretrained/{name}" for name in POLICIES])
    parser.add_argument("--episodes", type=int, default=32)
    arguments = parser.parse_args()
    for policy in arguments.policies:
        found = perturb_run(
            policy, ALL, episodes=arguments.episodes, seed=FINAL_SEED, which="best", log=print
        )
        name = Path(policy).name
        write_json(ROOT / f"results/robustness/{name}.json", found)
        print(f"written: {name}.json", flush=True)
        picture = ROOT / f"docs/images/{name}-robustness.png"
        if picture.is_file():
            with house_style():
                draw_robustness(found).savefig(picture)


if __name__ == "__main__":
    main()
