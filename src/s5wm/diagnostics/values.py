"""Calibration of the critic's values against realised returns."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.diagnostics.statistics import Agreement
from s5wm.ops.returns import lambda_return
from s5wm.types import Scalar, TimeStep


class Calibration(eqx.Module):
    """Value against realised discounted return."""

    everywhere: (
        Agreement  # all steps with a successor; returns bootstrap from the critic at the end of the window
    )
    before_crash: Agreement  # only steps of episodes that terminate within the window: no bootstrap


def realised_return(
    reward: Float[Array, " T"],
    value: Float[Array, " T"],
    timestep: TimeStep,
    discount: float,
) -> Float[Array, " T-1"]:
    """``r_{t+1} + g r_{t+2} + ...`` to the end of the episode; bootstraps where it is truncated or cut off.

    Entries at ``is_last`` are meaningless.
    """
    cont = discount * (1.0 - timestep.is_terminal.astype(jnp.float32))
    lambdas = 1.0 - timestep.is_last.astype(jnp.float32)
    return lambda_return(reward, cont, value, value[-1], lambdas)


def calibrate(
    value: Float[Array, "B T"], timestep: TimeStep, *, smoothing_weight: Scalar, discount: float
) -> Calibration:
    """Compare along windows ``[B, T]``."""
    reward = timestep.reward.total(smoothing_weight)
    returns = jax.vmap(lambda r, v, s: realised_return(r, v, s, discount))(reward, value, timestep)
    has_successor = ~timestep.is_last[:, :-1]
    # The next end of an episode, if any, is terminal.
    ends = jnp.where(timestep.is_terminal, 1.0, jnp.where(timestep.is_last, -1.0, 0.0))
    closed = jax.vmap(_next_nonzero)(ends) > 0
    predicted, real = value[:, :-1].reshape(-1), returns.reshape(-1)
    return Calibration(
        everywhere=Agreement.of(predicted, real, has_successor.reshape(-1)),
        before_crash=Agreement.of(predicted, real, (has_successor & closed).reshape(-1)),
    )


def _next_nonzero(flags: Float[Array, " T"]) -> Float[Array, " T-1"]:
    def backward(following: Scalar, flag: Scalar) -> tuple[Scalar, Scalar]:
        current = jnp.where(flag != 0, flag, following)
        return current, current

    _, found = jax.lax.scan(backward, jnp.zeros(()), flags[1:], reverse=True)
    return found
