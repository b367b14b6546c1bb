"""``card.json``: all that a runtime needs of an exported policy, without the weights.  No JAX.

SI units; world frame with z up, body frame FLU (x forward, y left, z up); quaternions w first, body to world.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from s5wm.errors import ConfigError
from s5wm.runs.codec import decode, encode
from s5wm.runs.files import read_json, write_json

CARD = "card.json"

VERSION = 1
"""Of the format."""

Vec3 = tuple[float, float, float]
Layout = Literal["A", "B", "C", "hover", "image", "image and imu", "other"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Consecutive numbers of an observation: a quantity divided by ``scale``."""

    name: str
    size: int
    unit: str
    scale: float
    frame: Literal["world", "body", "gate", "camera", "none"]


@dataclass(frozen=True, kw_only=True)
class ObservationCard:
    """What the policy reads: the input ``obs``, and the float32 input ``vector`` where numbers come with an image."""

    layout: Layout
    shape: tuple[int, ...]  # of obs, as its dtype
    dtype: Literal["float32", "uint8"]
    entries: tuple[
        Entry, ...
    ]  # of the vector, alone or beside an image; empty where the task does not name them
    vector_size: int = 0  # numbers of ``vector``; 0: there is no such input

    @property
    def is_image(self) -> bool:
        """Whether ``obs`` is an image."""
        return self.dtype == "uint8"


@dataclass(frozen=True, kw_only=True)
class MemorySlot:
    """A part of the memory vector; ``prev_action`` is the action last chosen, which a runtime may correct."""

    name: str
    start: int
    size: int


@dataclass(frozen=True, kw_only=True)
class VehicleCard:
    """The quadrotor that the policy was trained on (``envs.quadrotor.params.QuadParams``)."""

    mass: float  # kg
    inertia: Vec3  # kg m^2
    rotor_pos: tuple[tuple[float, float], ...]  # m, FR, BL, BR, FL
    spin: tuple[float, ...]
    thrust_coeff: float  # N / (rad/s)^2
    torque_coeff: float  # m
    thrust_max: float  # N per rotor
    rotor_speed_min: float  # rad/s
    rotor_speed_max: float
    motor_tau: float  # s
    rotor_inertia: float  # kg m^2
    drag: Vec3  # N / (m/s), body axes
    lift: float  # N / (m/s)^2
    rate_max: Vec3  # rad/s at a command of 1
    rate_gain: Vec3  # 1/s, of the rate controller that it was trained with
    rate_damping: Vec3


@dataclass(frozen=True, kw_only=True)
class TrackCard:
    """The gates, in the order of passing (``envs.racing.track.Track``)."""

    name: str
    gate_pos: tuple[Vec3, ...]  # m
    gate_yaw: tuple[float, ...]  # rad
    physical: tuple[int, ...]
    has_lower_rim: tuple[bool, ...]
    half_opening: float  # m
    rim: float
    box_lo: Vec3
    box_hi: Vec3
    start_pos: Vec3
    start_yaw: float
    drone_radius: float
    action_delay: float  # s, of the simulator that it was trained in


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the policy comes from."""

    run: str
    task: str
    agent: str
    commit: str | None
    env_steps: int | None
    date: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of the episodes of an evaluation."""

    success_rate: float | None  # None: the task does not define success
    lap_time_mean: float | None  # s; None: no lap, or no race
    return_mean: float


@dataclass(frozen=True, kw_only=True)
class ImitationCard:
    """How a network without memory that imitates the trained policy compares with it."""

    kind: Literal["mlp"]
    units: int
    layers: int
    error: float  # rms difference of an action from the teacher's, in states that the student visits
    episodes: int
    teacher: Outcome
    student: Outcome


@dataclass(frozen=True, kw_only=True)
class FlightCard:
    """All of it.

    Actions of a quadrotor lie in ``[-1, 1]``: collective thrust from 0 to ``4 thrust_max``, then three body rates.
    Those of other tasks lie between ``action_low`` and ``action_high``, or are one-hots of ``choices``, one after the
    other: variable ``i`` is one of ``choices[i]``.
    """

    version: int
    origin: Origin
    control_period: float  # s
    observation: ObservationCard
    actions: int
    action_slew: tuple[
        float, ...
    ]  # largest change of each action in a step that an honest flight has, with a margin
    memory: tuple[MemorySlot, ...]
    choices: tuple[int, ...] = ()  # empty: the actions are numbers
    action_low: tuple[float, ...] = ()  # empty: -1 for each, as in exports without it
    action_high: tuple[float, ...] = ()
    vehicle: VehicleCard | None  # None: the task flies no quadrotor
    track: TrackCard | None
    imitation: ImitationCard | None = None  # None: it is the trained policy itself

    @property
    def memory_size(self) -> int:
        """Numbers to remember."""
        return sum(slot.size for slot in self.memory)

    @property
    def rounding(self) -> Float[np.ndarray, " A"]:
        """What rounding to float32 may change of each action: next to nothing, unless its bounds are far from zero."""
        largest = np.maximum(np.abs(self.action_low), np.abs(self.action_high))
        return 2.0 * float(np.finfo(np.float32).eps) * (largest if self.action_low else np.ones(self.actions))

    @property
    def half_ranges(self) -> Float[np.ndarray, " A"]:
        """Half of the range of each action; 1 for a quadrotor's."""
        if not self.action_low:
            return np.ones(self.actions)
        return (np.array(self.action_high) - np.array(self.action_low)) / 2.0

    def save(self, folder: Path) -> None:
        """Write ``card.json``."""
        write_json(folder / CARD, encode(self))

    @staticmethod
    def load(folder: Path) -> "FlightCard":
        """Read ``card.json``; raises ``ConfigError`` where the folder is no export, or of another version."""
        if not (folder / CARD).is_file():
            raise ConfigError(
                f"{folder} is no exported policy (no {CARD} in it): s5wm export RUN DIR writes one, then s5wm fly DIR. "
                "RUN is a training or a shipped policy, such as pretrained/split-s"
            )
        data = read_json(folder / CARD)
        version = data.get("version") if isinstance(data, dict) else None
        if version != VERSION:
            raise ConfigError(
                f"{folder / CARD} has format {version}, this s5wm reads {VERSION}: export the policy again"
            )
        return decode(FlightCard, data, warn=lambda _: None)
