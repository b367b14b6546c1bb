"""``s5wm fly``: an exported policy at a fixed rate, on a simulated or a real vehicle."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from s5wm.deploy.card import FlightCard
from s5wm.deploy.runtime.engines import CEngine, Engine, OnnxEngine
from s5wm.deploy.runtime.guard import Limits
from s5wm.deploy.runtime.logbook import Logbook, Outcome
from s5wm.deploy.runtime.loop import Clock, Loop, SimulatedClock
from s5wm.deploy.runtime.mavlink import MavlinkTarget
from s5wm.deploy.runtime.pilot import Pilot
from s5wm.deploy.runtime.realtime import prepare
from s5wm.deploy.runtime.simulation import FLYING, Dynamics, Simulation
from s5wm.errors import ConfigError
from s5wm.runs.files import verify_manifest

EngineName = Literal["onnx", "c"]


@dataclass(frozen=True, kw_only=True)
class FlightPlan:
    """Length and options of a flight."""

    seconds: float = 20.0
    engine: EngineName = "onnx"
    fast: bool = False  # on a simulated clock
    dry_run: bool = False  # commands are computed and recorded, and go nowhere
    priority: int = 0  # of the process among those with a fixed one (SCHED_FIFO); 0: as usual

    def __post_init__(self) -> None:
        if not 0.1 <= self.seconds <= 86400.0:
            raise ConfigError(f"--seconds is {self.seconds}; it must lie in [0.1, 86400]")
        if not 0 <= self.priority <= 99:
            raise ConfigError(f"--priority is {self.priority}; it must lie in [0, 99]")


def load_engine(folder: Path, name: EngineName) -> Engine:
    """The policy of an export."""
    return OnnxEngine(folder / "policy.onnx") if name == "onnx" else CEngine(folder)


def open_export(folder: Path) -> FlightCard:
    """The card of a verified export; raises ``ConfigError`` or ``CorruptError``."""
    card = FlightCard.load(folder)
    verify_manifest(folder, allows_more=True)
    return card


def fly_simulated(
    folder: Path,
    plan: FlightPlan,
    out: Path,
    *,
    log: Callable[[str], None],
    dynamics: Dynamics | None = None,
) -> dict[str, Any]:
    """A flight in the runtime's simulator, or with these dynamics; files go to ``out``, the summary is returned."""
    card, limits = open_export(folder), Limits()
    pilot = Pilot(card, load_engine(folder, plan.engine), limits)
    assert card.vehicle is not None and card.track is not None, "the pilot has asked for both"
    clock = SimulatedClock() if plan.fast else Clock()
    target = Simulation(card.vehicle, card.track, clock, obeys=not plan.dry_run, dynamics=dynamics)
    logbook = Logbook(card, limits.deadline)
    pilot.warm_up()
    log(f"flying {plan.seconds:g} s {'on a simulated clock' if plan.fast else 'in real time'} ...")
    prepare(plan.priority, log)
    Loop(pilot, target, clock, card.control_period, logbook.add).run(plan.seconds)
    ending = "TIME_LIMIT" if target.ending == FLYING else target.ending
    return logbook.save(out, Outcome(ending, target.passed, target.lap_times))


@dataclass(frozen=True, kw_only=True)
class MavlinkLink:
    """Address of the vehicle, and the scale of its throttle."""

    address: str = "127.0.0.1:14540"
    hover_throttle: float = 0.5

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Raises ``ConfigError`` for an invalid address."""
        host, colon, port = self.address.rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"--address is {self.address!r}; it must be HOST:PORT, e.g. 127.0.0.1:14540")
        return host, int(port)


def fly_mavlink(
    folder: Path, plan: FlightPlan, link: MavlinkLink, out: Path, *, log: Callable[[str], None]
) -> dict[str, Any]:
    """A flight of a vehicle behind MAVLink; a dry run unless the plan says otherwise."""
    if plan.fast:
        raise ConfigError("--fast is for the simulated drone; a vehicle has its own time")
    card, limits, clock = open_export(folder), Limits(), Clock()
    pilot = Pilot(card, load_engine(folder, plan.engine), limits)
    assert card.vehicle is not None, "the pilot has asked for it"
    target = MavlinkTarget(
        card.vehicle, clock, link.host_and_port, hover_throttle=link.hover_throttle, sends=not plan.dry_run
    )
    logbook, ending, metrics = Logbook(card, limits.deadline), "FLYING", dict[str, Any]()
    try:
        pilot.warm_up()
        prepare(plan.priority, log)
        log(
            f"waiting for ODOMETRY at {link.address}, {'sending nothing' if plan.dry_run else 'SENDING COMMANDS'} ..."
        )
        Loop(pilot, target, clock, card.control_period, logbook.add).run(plan.seconds)
        ending = "TIME_LIMIT"
    finally:
        target.close()
        if logbook.periods:  # somebody who ends the program by Ctrl-C wants the record most
            metrics = logbook.save(out, Outcome(ending, pilot.passed, ()))
    return metrics | {"commands_sent": target.sent}
