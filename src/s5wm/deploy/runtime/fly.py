"""``s5wm fly``: an exported policy at a fixed rate, on a simulated or a real vehicle."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from s5wm.deploy.card import FlightCard, VehicleCard
from s5wm.deploy.runtime.engines import CEngine, Engine, OnnxEngine
from s5wm.deploy.runtime.guard import Limits
from s5wm.deploy.runtime.interrupts import Interrupts
from s5wm.deploy.runtime.logbook import RUNTIME, Logbook, Outcome
from s5wm.deploy.runtime.loop import Clock, Loop, SimulatedClock
from s5wm.deploy.runtime.mavlink import MavlinkTarget, check_throttle, largest_throttle, rounded_down
from s5wm.deploy.runtime.pilot import Pilot, check_card
from s5wm.deploy.runtime.realtime import prepare
from s5wm.deploy.runtime.simulation import FLYING, Dynamics, Simulation
from s5wm.errors import ConfigError, S5wmError
from s5wm.runs.directory import CONFIG, room_for_results
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


def room_for_flight(out: Path, *, replaces: bool = True) -> None:
    """Make the folder of a flight's records before anything flies.

    Refused where it belongs to a run or a policy, and where it holds the records of a flight unless that
    may be replaced.
    """
    if (out / CONFIG).is_file():
        raise ConfigError(
            f"--out {out} is a run or a policy, whose flights.npz would be lost; name another folder"
        )
    if not replaces and (out / RUNTIME).is_file():
        raise ConfigError(
            f"--out {out} holds the records of a flight, which would be lost; name another folder"
        )
    room_for_results(out)


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
    vehicle, track = check_card(card)
    room_for_flight(out)
    pilot = Pilot(card, load_engine(folder, plan.engine), limits)
    clock = SimulatedClock() if plan.fast else Clock()
    target = Simulation(vehicle, track, clock, obeys=not plan.dry_run, dynamics=dynamics)
    logbook = Logbook(card, limits.deadline)
    pilot.warm_up()
    log(f"flying {plan.seconds:g} s {'on a simulated clock' if plan.fast else 'in real time'} ...")
    prepare(plan.priority, log)
    ending = run_until_stopped(Loop(pilot, target, clock, card.control_period, logbook.add), plan.seconds)
    ending = ending if target.ending == FLYING else target.ending
    return logbook.save(out, Outcome(ending, target.passed, target.lap_times))


def run_until_stopped(loop: Loop, seconds: float) -> str:
    """Run a loop; returns ``TIME_LIMIT``, or the name of the signal that stopped it."""
    with Interrupts() as interrupts:
        loop.is_stopped = interrupts.is_pending
        try:
            loop.run(seconds)
        except KeyboardInterrupt:  # the second request to stop
            pass
        except S5wmError:
            if not interrupts.is_pending():  # Ctrl-C ends the firmware too
                raise
    return "TIME_LIMIT" if interrupts.received is None else interrupts.received.name


@dataclass(frozen=True, kw_only=True)
class MavlinkLink:
    """Address of the vehicle, and the scale of its throttle."""

    address: str = "127.0.0.1:14540"
    hover_throttle: float | None = None  # None: that of the quadrotor of the card, in a dry run alone

    def throttle(self, vehicle: VehicleCard, *, is_live: bool) -> float:
        """Throttle at hover; raises ``ConfigError`` where a vehicle that follows the commands has none."""
        if self.hover_throttle is not None:
            return self.hover_throttle
        largest = largest_throttle(vehicle)
        if is_live:
            raise ConfigError(
                "--live needs --hover-throttle: the throttle (0 to 1) at which your vehicle hovers, as you have "
                f"measured it; for this policy at most {rounded_down(largest):g}"
            )
        return largest

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
    vehicle, _ = check_card(card)
    is_live, address = not plan.dry_run, link.host_and_port
    throttle = check_throttle(vehicle, link.throttle(vehicle, is_live=is_live))
    room_for_flight(out, replaces=not is_live)
    pilot = Pilot(card, load_engine(folder, plan.engine), limits)
    target = MavlinkTarget(vehicle, clock, address, hover_throttle=throttle, sends=is_live)
    logbook, ending, metrics = Logbook(card, limits.deadline), "FLYING", dict[str, Any]()
    try:
        pilot.warm_up()
        prepare(plan.priority, log)
        log(
            f"waiting for ODOMETRY at {link.address}, {'SENDING COMMANDS' if is_live else 'sending nothing'} ..."
        )
        loop = Loop(pilot, target, clock, card.control_period, logbook.add, is_live=is_live, log=log)
        ending = run_until_stopped(loop, plan.seconds)
    finally:
        target.close()
        if logbook.periods or ending != "FLYING":  # whatever ended it, somebody wants the record
            metrics = logbook.save(out, Outcome(ending, pilot.passed, ()))
    return metrics | {"commands_sent": target.sent}
