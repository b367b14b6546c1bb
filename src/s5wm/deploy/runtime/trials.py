"""Several flights of one policy from perturbed starts: success rate and lap times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import FlightCard
from s5wm.deploy.runtime.engines import Engine
from s5wm.deploy.runtime.guard import Limits
from s5wm.deploy.runtime.loop import Loop, Period, SimulatedClock
from s5wm.deploy.runtime.pilot import Mode, Pilot
from s5wm.deploy.runtime.plant import Body, Quadrotor
from s5wm.deploy.runtime.simulation import FLYING, Dynamics, Simulation
from s5wm.evaluation.estimates import wilson

LAPS = 3
"""Of a flight that succeeds."""


@dataclass(frozen=True, kw_only=True)
class StartNoise:
    """Half widths of the uniform noise on the start (those of an evaluation, ``envs.racing.restarts.ResetNoise``)."""

    pos: tuple[float, float, float] = (0.5, 0.5, 0.3)  # m, world axes
    vel: float = 0.125  # m/s per axis
    tilt: float = math.radians(4.0)  # rad per component of a rotation vector in body axes
    rate: float = math.radians(5.0)  # rad/s per axis


@dataclass(frozen=True)
class Trial:
    """One flight."""

    ending: str
    gates: int
    laps: int
    lap_times: tuple[float, ...]  # s, of laps that began and ended at the first gate
    seconds: float
    held: int  # periods that the policy did not command

    @property
    def is_success(self) -> bool:
        """Three laps without a crash."""
        return self.ending == "TIME_LIMIT" and self.laps >= LAPS


def draw_starts(card: FlightCard, count: int, *, seed: int, noise: StartNoise | None = None) -> list[Body]:
    """Hovers near the start pose of a race."""
    assert card.vehicle is not None and card.track is not None, "the pilot asks for both"
    noise, draw = noise or StartNoise(), np.random.default_rng(seed)
    quad, track = Quadrotor(card.vehicle), card.track
    starts: list[Body] = []
    for _ in range(count):
        body = quad.at_rest(track.start_pos, track.start_yaw)
        uniform = [draw.uniform(-1.0, 1.0, 3) for _ in range(4)]
        pos = body.pos_w + uniform[0] * np.array(noise.pos)
        pos[2] = max(pos[2], track.box_lo[2] + 0.1)
        quat = _turned(body.quat, uniform[2] * noise.tilt)
        starts.append(Body(pos, uniform[1] * noise.vel, quat, uniform[3] * noise.rate, body.rotor_speed))
    return starts


def fly_trial(
    card: FlightCard, engine: Engine, dynamics: Dynamics | None, start: Body, seconds: float
) -> Trial:
    """One flight on a simulated clock."""
    engine.reset()
    pilot, clock, modes = Pilot(card, engine, Limits()), SimulatedClock(), list[Mode]()
    assert card.vehicle is not None and card.track is not None, "the pilot has asked for both"
    target = Simulation(card.vehicle, card.track, clock, dynamics=dynamics, start=start)

    def remember(period: Period) -> None:
        modes.append(period.mode)

    Loop(pilot, target, clock, card.control_period, remember).run(seconds)
    return Trial(
        ending="TIME_LIMIT" if target.ending == FLYING else target.ending,
        gates=target.passed,
        laps=target.passed // target.gates.count,
        lap_times=tuple(target.lap_times),
        seconds=clock.now(),
        held=sum(mode is not Mode.POLICY for mode in modes),
    )


def summary(trials: Sequence[Trial]) -> dict[str, object]:
    """Success with its interval, laps, endings."""
    laps = np.array([lap for trial in trials for lap in trial.lap_times if trial.is_success])
    successes = sum(trial.is_success for trial in trials)
    endings = sorted({trial.ending for trial in trials})
    return {
        "flights": len(trials),
        "successes": successes,
        "success_interval": wilson(float(successes), len(trials)),
        "lap_mean": float(laps.mean()) if laps.size else None,
        "lap_sd": float(laps.std()) if laps.size else None,
        "lap_best": float(laps.min()) if laps.size else None,
        "laps": [trial.laps for trial in trials],
        "gates": [trial.gates for trial in trials],
        "periods_held": sum(trial.held for trial in trials),
        "endings": {ending: sum(trial.ending == ending for trial in trials) for ending in endings},
    }


def _turned(quat: Float[np.ndarray, " 4"], vector: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 4"]:
    """Turned by a rotation vector in body axes."""
    angle = float(np.linalg.norm(vector))
    if angle == 0.0:
        return quat
    w, (x, y, z) = math.cos(0.5 * angle), math.sin(0.5 * angle) * vector / angle
    a, b, c, d = quat
    return np.array(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ]
    )
