"""Returns along time; one sequence, ``vmap`` adds batches.

Rewards are received *on arriving*: ``reward[t + 1]`` belongs to the action taken at step ``t``.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def lambda_return(
    reward: Float[Array, " T"],
    cont: Float[Array, " T"],
    value: Float[Array, " T"],
    bootstrap: Float[Array, ""],
    lambda_: Float[Array, " T"] | float,
) -> Float[Array, " T-1"]:
    """``R_t = r_{t+1} + c_{t+1} [(1 - l_{t+1}) v_{t+1} + l_{t+1} R_{t+1}]``, the last ``R`` is ``bootstrap``.

    ``cont`` contains the discount and is 0 at termination; ``value[0]``, ``reward[0]``, ``cont[0]`` are not
    read.  A truncation at ``t+1`` is a ``lambda_`` of 0 there: bootstrap from ``v_{t+1}``.
    """
    lambdas = jnp.broadcast_to(jnp.asarray(lambda_, reward.dtype), reward.shape)[1:]
    inputs = reward[1:] + cont[1:] * (1 - lambdas) * value[1:]

    def backward(
        following: Float[Array, ""], step: tuple[Float[Array, ""], Float[Array, ""]]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        base, decay = step
        current = base + decay * following
        return current, current

    _, returns = jax.lax.scan(backward, bootstrap, (inputs, cont[1:] * lambdas), reverse=True)
    return returns


def gae(
    reward: Float[Array, " T"],
    value: Float[Array, " T"],
    is_last: Bool[Array, " T"],
    is_terminal: Bool[Array, " T"],
    *,
    discount: float,
    lambda_: float,
) -> Float[Array, " T-1"]:
    """Generalised advantages of the actions at all time steps but the last (Schulman et al. 2016).

    Termination at ``t+1`` removes its value; truncation keeps it (the final observation has its own time step)
    and both cut the sum.  The action at a step with ``is_last`` only triggers a reset: mask it.
    """
    cont = discount * (1.0 - is_terminal.astype(value.dtype))
    lambdas = lambda_ * (1.0 - is_last.astype(value.dtype))
    return lambda_return(reward, cont, value, value[-1], lambdas) - value[:-1]
