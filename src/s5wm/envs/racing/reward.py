"""Reward of racing: progress to the next gate, kept apart from the penalty on rough actions."""

from dataclasses import dataclass, fields

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from s5wm.envs.quadrotor.integrate import CTRL_DT
from s5wm.envs.quadrotor.smoothing import smoothing_reward
from s5wm.types import Reward, Scalar


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Weights of the terms; all are non-negative, penalties are subtracted."""

    progress: float = 1.0  # per metre nearer to the target
    gate_pass: float = 1.0  # for a pass through the centre; nothing at the edge
    body_rate: float = 0.005  # per squared roll and pitch rate, as fractions of the largest command
    crash: float = 4.0  # for a terminal step
    crash_speed: float = 0.1  # more of it per m/s
    view: float = 0.0  # per step, times 1 - cos of the angle between optical axis and target
    action_change: float = 0.02  # smoothing: squared change of the action
    rate_command: float = 0.01  # smoothing: squared body-rate command

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= 0.0:
                raise ValueError(
                    f"RewardConfig.{field.name} is {getattr(self, field.name)}; weights must be at least 0: "
                    "penalties are subtracted already, give the positive weight."
                )


FASTEST = 25.0
"""m/s, of what a reward of a step is held against."""


LARGEST_RATES = 20.0
"""Sum of squared roll and pitch rates, as fractions of the largest command: 30 rad/s end an episode."""


def reward_range(config: RewardConfig) -> tuple[float, float]:
    """The least and the largest nominal reward of one step."""
    nearer = config.progress * FASTEST * CTRL_DT
    crash = config.crash + config.crash_speed * FASTEST
    return -(nearer + crash + 2.0 * config.view + LARGEST_RATES * config.body_rate), nearer + config.gate_pass


class Arrival(eqx.Module):
    """Inputs of the nominal reward of one step."""

    progress: Scalar  # m nearer to the centre of the target, which is the new one on a step that passes
    passed: Bool[Array, ""]
    miss: Scalar  # distance from the axis when passing, as a fraction of the half opening
    rate_xy: Float[Array, " 2"]  # roll and pitch rate as fractions of the largest command
    speed: Scalar  # m/s
    off_axis: Scalar  # 1 - cos of the angle between the optical axis and the direction to the target
    crashed: Bool[Array, ""]


def nominal_reward(config: RewardConfig, arrival: Arrival) -> Scalar:
    """``k_p (d_{t-1} - d_t) + k_g [pass] (1 - e/half) - k_w |w_xy/w_max|^2 - k_l (1 - cos) - [crash] (k_c + k_v |v|)``.

    Imagination is fully observed: without the term in the cosine, a policy that learns there has no incentive to keep
    the gate in view.
    """
    passing = jnp.where(arrival.passed, 1.0 - arrival.miss, 0.0)
    crash = jnp.where(arrival.crashed, config.crash + config.crash_speed * arrival.speed, 0.0)
    return (
        config.progress * arrival.progress
        + config.gate_pass * passing
        - config.body_rate * jnp.sum(jnp.square(arrival.rate_xy))
        - config.view * arrival.off_axis
        - crash
    )


def racing_reward(
    config: RewardConfig, arrival: Arrival, action: Float[Array, " A"], previous: Float[Array, " A"]
) -> Reward:
    """Both components of one step."""
    smoothing = racing_smoothing(config, action, previous)
    return Reward(nominal=nominal_reward(config, arrival), smoothing=smoothing)


def racing_smoothing(
    config: RewardConfig, action: Float[Array, " A"], previous: Float[Array, " A"]
) -> Scalar:
    """The penalty on a rough action after the previous one."""
    return smoothing_reward(action, previous, change=config.action_change, rate=config.rate_command)
