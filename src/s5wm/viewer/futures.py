"""Predictions of a world model from many moments of an episode, along the real actions.

Axes: ``M`` moments, ``S`` samples from each, ``H`` steps ahead.
"""

import functools as ft
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from s5wm.diagnostics.forecast import Forecast, beliefs_of, describe, forecast
from s5wm.types import Key, MixedObs
from s5wm.viewer.episode import Episode
from s5wm.worldmodel.dynamics import Belief
from s5wm.worldmodel.model import WorldModel

SEED = 2027


@dataclass(frozen=True, kw_only=True)
class FuturesConfig:
    """Sizes of the predictions."""

    horizon: int = 50  # steps ahead
    every: int = 5  # steps between two moments
    samples: int = 8  # futures from each moment
    keep: int = 2  # of every so many steps ahead, one is kept


@dataclass(frozen=True, kw_only=True, eq=False)
class Futures:
    """Predicted states; NaN beyond the end of the episode.  Place 0 of ``H`` is the moment itself."""

    moment: Int[np.ndarray, " M"]  # indices of time steps of the episode
    ahead: Int[np.ndarray, " H"]  # steps ahead of the moment
    state: Float[np.ndarray, "M S H Y"]  # in the environment's own numbers
    reward: Float[np.ndarray, "M S H"] | None  # None: the heads are not there


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFutures:
    """Predicted images; steps beyond the end of the episode repeat its last one."""

    moment: Int[np.ndarray, " M"]
    ahead: Int[np.ndarray, " H"]
    image: Float[np.ndarray, "M H h w c"]  # in [0, 1]


def predict_futures(
    model: WorldModel[Any], episode: Episode, config: FuturesConfig, *, has_heads: bool
) -> Futures:
    """Futures of states from every ``config.every``-th time step."""
    moment = np.arange(0, max(episode.rows - 1, 1), config.every)
    ahead = np.arange(0, config.horizon + 1, config.keep)
    row = moment[:, None] + np.arange(config.horizon)
    actions = jnp.asarray(episode.action[np.minimum(row, episode.rows - 1)])
    belief = jax.tree.map(lambda x: x[moment], _beliefs(model, episode))
    said = jax.device_get(_imagined(model, belief, actions, samples=config.samples, key=jr.key(SEED)))
    inside = (moment[:, None] + ahead < episode.rows)[:, None]
    reward = np.where(inside, said.reward[:, :, ahead], np.nan) if has_heads else None
    if reward is not None:
        reward[:, :, 0] = episode.reward[moment, None]  # it was received before anything was imagined
    return Futures(
        moment=moment,
        ahead=ahead,
        state=np.where(inside[..., None], np.asarray(said.state)[:, :, ahead], np.nan),
        reward=reward,
    )


def predict_images(model: WorldModel[Any], episode: Episode, config: FuturesConfig) -> ImageFutures:
    """One future of decoded images from every second moment, a few steps of each."""
    moment = np.arange(0, max(episode.rows - 1, 1), 2 * config.every)
    ahead = np.linspace(0, config.horizon, 6).round().astype(int)
    beliefs = _beliefs(model, episode)
    images: list[np.ndarray] = []
    for one in moment:  # one after the other: all at once would take gigabytes
        row = np.minimum(one + np.arange(config.horizon), episode.rows - 1)
        actions = jnp.asarray(episode.action[row])[None]
        belief = jax.tree.map(lambda x, at=one: x[at : at + 1], beliefs)
        said = _imagined(model, belief, actions, samples=1, key=jr.key(SEED))
        state = said.state.image if isinstance(said.state, MixedObs) else said.state
        images.append(np.asarray(state[0, 0, ahead]))
    return ImageFutures(moment=moment, ahead=ahead, image=np.stack(images))


def _beliefs(model: WorldModel[Any], episode: Episode) -> Belief[Any]:
    """Beliefs of the model ``[T]``, which need not be those of the policy."""
    timestep, action = jax.tree.map(jnp.asarray, (episode.timestep, episode.action))
    return _followed(model, timestep, action)


_followed = jax.jit(beliefs_of)


@ft.partial(jax.jit, static_argnames="samples")
def _imagined(
    model: WorldModel[Any], belief: Belief[Any], actions: Float[Array, "M H A"], *, samples: int, key: Key
) -> Forecast:
    """``[M, S, H + 1]``; place 0 is the output of the heads at the moment itself."""
    repeated = jax.tree.map(lambda x: jnp.repeat(x, samples, axis=0), (belief, actions))
    said = forecast(model, *repeated, key=key)
    begun = describe(model, repeated[0].latent.feature)
    count = actions.shape[0]

    def joined(first: Array, rest: Array) -> Array:
        return jnp.concatenate([first[:, None], rest], axis=1).reshape(count, samples, -1, *rest.shape[2:])

    return jax.tree.map(joined, begun, said)
