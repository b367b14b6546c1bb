"""The penalty on rough actions, the second reward of tasks in which a quadrotor flies."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.types import Scalar


def smoothing_reward(
    action: Float[Array, " A"], previous: Float[Array, " A"], *, change: float, rate: float
) -> Scalar:
    """``-k_d |a_t - a_{t-1}|^2 - k_a |a_w|^2`` of actions clipped to [-1, 1], thrust first, then rates."""
    return -change * jnp.sum(jnp.square(action - previous)) - rate * jnp.sum(jnp.square(action[1:]))
