"""Predictions of a world model along real flights: open loop, with the actions that were really flown.

Start ``t`` and horizon ``k`` (from 1) predict step ``t + k`` from the posterior belief of step ``t`` and the
actions of steps ``t .. t + k - 1``.  A prediction counts if no episode begins in steps ``t + 1 .. t + k``.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from s5wm.agents.dreamer.stored import StoredLatent
from s5wm.nn.conv import ImageDecoder
from s5wm.ops.transforms import symexp
from s5wm.types import Key, MixedObs, Obs, TimeStep, Transition, array_of
from s5wm.worldmodel.chunk import Chunk
from s5wm.worldmodel.dynamics import Belief, Posterior
from s5wm.worldmodel.model import WorldModel
from s5wm.worldmodel.sensing import decode


class Forecast(eqx.Module):
    """Outputs of the heads."""

    state: Obs  # [*b, Y], images [*b, h, w, c] or both: the decoder's target in raw units of the environment
    reward: Float[Array, "*b"]  # nominal
    terminal: Float[Array, "*b"]  # P(is_terminal)

    @property
    def vector(self) -> Float[Array, "..."]:
        """The state of a model that decodes one array."""
        return array_of(self.state)


def filtered(model: WorldModel[Any], chunk: Chunk[Any], key: Key) -> Posterior[Any]:
    """Posteriors ``[B, T]`` of real windows."""
    noise = model.dynamics.space.noise(key, chunk.timestep.is_first.shape)
    return jax.vmap(lambda c, n: model.observe(c, noise=n))(chunk, noise)


def beliefs_of(model: WorldModel[Any], timestep: TimeStep, action: Float[Array, "T A"]) -> Belief[Any]:
    """The model's own beliefs ``[T]`` along an episode from its first step on, by modes, whatever policy acted.

    A policy that is a moving average of parameters has beliefs of another core.
    """
    prev_action = jnp.concatenate([jnp.zeros_like(action[:1]), action[:-1]])

    def follow(belief: Belief[Any], now: tuple[Obs, Array, Array]) -> tuple[Belief[Any], Belief[Any]]:
        obs, before, is_first = now
        following = model.dynamics.step(belief, model.encoder(obs), before, is_first, noise=None)
        return following, following

    rows = (timestep.obs, prev_action, timestep.is_first)
    return jax.lax.scan(follow, model.dynamics.initial(), rows)[1]


@jax.jit
def seen_by(model: WorldModel[Any], transitions: Transition[Any]) -> Transition[StoredLatent[Any]]:
    """Flights ``[B, T+1]`` of any policy with this model's latents of their first step.

    The first step begins an episode and is the context of all others; no other latent is read.
    """
    first = jax.tree.map(lambda x: x[:, :1], (transitions.timestep, transitions.action))
    belief = jax.vmap(lambda timestep, action: beliefs_of(model, timestep, action))(*first)
    shape = transitions.timestep.is_first.shape
    spread = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (*shape, *x.shape[2:])),
        StoredLatent(belief.memory, belief.latent.stoch),
    )
    # The context action is that of the flight: what this model would have chosen was never flown.
    return Transition(transitions.timestep, transitions.action, spread)


class Reach(eqx.Module):
    """Indices of the steps that forecasts from ``S`` starts at ``H`` horizons predict."""

    start: Int[Array, " S"]
    target: Int[Array, "S H"]  # start + horizon, clipped to the window
    action: Int[Array, "S H"]  # index of the action that leads there, clipped to the window
    valid: Bool[Array, "B S H"]

    @classmethod
    def of(cls, is_first: Bool[Array, "B T"], *, horizon: int, stride: int) -> "Reach":
        """Every ``stride``-th step but the last one is a start."""
        length = is_first.shape[1]
        start = jnp.arange(0, length - 1, stride)
        target = start[:, None] + 1 + jnp.arange(horizon)[None]
        inside = target < length
        target = jnp.minimum(target, length - 1)
        episode = jnp.cumsum(is_first, axis=1)
        valid = inside[None] & (episode[:, target] == episode[:, start][..., None])
        return cls(start, target, jnp.maximum(target - 1, start[:, None]), valid)


def describe(model: WorldModel[Any], feature: Float[Array, "*b F"]) -> Forecast:
    """Heads of a feature, in raw units: without symlog, without the discount."""
    state = decode(model.decoder, feature)
    said = model.predict(feature)
    terminal = jnp.clip(1.0 - said.cont / model.discount, 0.0, 1.0)
    if model.config.symlog_inputs and not isinstance(model.decoder, ImageDecoder):
        state = (
            MixedObs(state.image, symexp(jnp.asarray(state.vector)))
            if isinstance(state, MixedObs)
            else symexp(state)
        )
    return Forecast(state, said.reward_nominal, terminal)


def forecast(
    model: WorldModel[Any], belief: Belief[Any], actions: Float[Array, "K H A"], *, key: Key
) -> Forecast:
    """Open loop from ``K`` beliefs: entry ``[k, i]`` predicts the step that the ``i``-th action leads to."""
    noise = model.dynamics.space.noise(key, actions.shape[:2])

    def advance(current: Belief[Any], inputs: tuple[Array, Array]) -> tuple[Belief[Any], Forecast]:
        following = jax.vmap(lambda b, a, n: model.dynamics.predict(b, a, noise=n))(current, *inputs)
        return following, describe(model, following.latent.feature)

    by_time = (jnp.swapaxes(actions, 0, 1), jnp.swapaxes(noise, 0, 1))
    _, said = jax.lax.scan(advance, belief, by_time)
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), said)


def forecast_from(
    model: WorldModel[Any], belief: Belief[Any], action: Float[Array, "B T A"], reach: Reach, *, key: Key
) -> Forecast:
    """``forecast`` from the beliefs ``[B, T]`` of the starts of ``reach``, ``[B, S, H]``."""
    batch, starts = action.shape[0], reach.start.shape[0]
    chosen = jax.tree.map(lambda x: x[:, reach.start].reshape(batch * starts, *x.shape[2:]), belief)
    actions = action[:, reach.action]
    said = forecast(model, chosen, actions.reshape(batch * starts, *actions.shape[2:]), key=key)
    return jax.tree.map(lambda x: x.reshape(batch, starts, *x.shape[1:]), said)


def flat(x: Array) -> Array:
    """Batch and start as one axis."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
