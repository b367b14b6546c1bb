"""Flies policies where the world is not as in training, and writes ``results/robustness/<policy>.json``.

    python benchmarks/robustness.py [pretrained/split-s ... | RUN ...] [--episodes 32]

A policy is a shipped one or a run; the file has the name of its last folder.
"""

import argparse
from pathlib import Path

from s5wm.experiments.perturb import ALL, perturb_run
from s5wm.runs.files import write_json

POLICIES = ("split-s", "split-s-robust", "figure-8-state", "figure-8-state-robust")
SEED = 12345


def main() -> None:
    """Every suite at every strength, one policy after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("policies", nargs="*", default=[f"pretrained/{name}" for name in POLICIES])
    parser.add_argument("--episodes", type=int, default=32)
    arguments = parser.parse_args()
    folder = Path(__file__).parents[1] / "results/robustness"
    for policy in arguments.policies:
        found = perturb_run(
            policy, ALL, episodes=arguments.episodes, seed=SEED, which="best", log=lambda text: print(text)
        )
        write_json(folder / f"{Path(policy).name}.json", found)
        print(f"written: {Path(policy).name}.json", flush=True)


if __name__ == "__main__":
    main()
