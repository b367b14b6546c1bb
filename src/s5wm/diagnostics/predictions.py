"""Imagined and real futures from a few moments of real flights."""

import functools as ft
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from s5wm.agents.dreamer.stored import StoredLatent, to_chunk
from s5wm.diagnostics.diagnosis import GroupErrors, RewardFidelity, raw_state
from s5wm.diagnostics.forecast import Reach, describe, filtered, forecast
from s5wm.diagnostics.statistics import Band
from s5wm.runs.predictions import ErrorBand, OpenLoopPredictions
from s5wm.types import Key, Transition
from s5wm.worldmodel.model import WorldModel

MOMENTS = 12
SAMPLES = 8

Moments = Int[np.ndarray, "E 2"]
"""Flight and time step (after the context) of each moment."""


def choose_moments(reach: Reach) -> Moments:
    """Up to ``MOMENTS`` starts, spread evenly, from which the flight goes on for as many steps as any does."""
    reached = np.asarray(reach.valid)
    longest = np.flatnonzero(reached.any(axis=(0, 1)))
    if longest.size == 0:
        return np.zeros((0, 2), np.int32)
    found = np.argwhere(reached[:, :, longest[-1]])
    chosen = np.unique(np.linspace(0, len(found) - 1, MOMENTS).round().astype(int))
    flight, start = found[chosen].T
    return np.stack([flight, np.asarray(reach.start)[start]], axis=1).astype(np.int32)


@ft.partial(jax.jit, static_argnames=("horizon", "samples"))
def futures(
    model: WorldModel[Any],
    transitions: Transition[StoredLatent[Any]],
    moments: Array,
    *,
    horizon: int,
    samples: int,
    key: Key,
) -> tuple[Float[Array, "E H1 Y"], Float[Array, "E S H1 Y"], Bool[Array, "E H1"]]:
    """Real states and imagined ones; place 0 is the moment itself, there the imagined one is the decoded belief.

    Both mean nothing from where the episode, or the window, had ended; the last array says where they do.
    """
    k_noise, k_open = jr.split(key)
    chosen = jax.tree.map(lambda x: x[moments[:, 0]], transitions)
    chunk = to_chunk(chosen)
    count, length = chunk.timestep.is_first.shape
    out = filtered(model, chunk, k_noise)
    each = jnp.arange(count)
    belief = jax.tree.map(lambda x: x[each, moments[:, 1]], out.belief)

    place = moments[:, 1:] + jnp.arange(horizon + 1)[None]
    episode = jnp.cumsum(chunk.timestep.is_first, axis=1)
    step = jnp.minimum(place, length - 1)
    valid = (place < length) & (episode[each[:, None], step] == episode[each, moments[:, 1]][:, None])
    real = raw_state(model, chunk.timestep)[each[:, None], step]

    actions = chunk.action[each[:, None], step[:, :-1]]
    repeated = jax.tree.map(lambda x: jnp.repeat(x, samples, axis=0), (belief, actions))
    said = forecast(model, *repeated, key=k_open).vector
    begun = describe(model, repeated[0].latent.feature).vector[:, None]
    imagined = jnp.concatenate([begun, said], axis=1).reshape(count, samples, horizon + 1, -1)
    return real, imagined, valid


def predict_positions(
    model: WorldModel[Any],
    transitions: Transition[StoredLatent[Any]],
    open_loop: GroupErrors,
    *,
    dt: float,
    key: Key,
) -> OpenLoopPredictions:
    """Predictions for ``s5wm.runs.predictions``, without positions where the task has none."""
    groups, horizon = open_loop.groups, open_loop.band.median.shape[1]
    position = [group for group in groups if group.name == "position"]
    reach = Reach.of(transitions.timestep.is_first[:, 1:], horizon=horizon, stride=1)
    moments = choose_moments(reach)
    if not position or not len(moments):
        return OpenLoopPredictions(
            dt=dt,
            real_pos=np.zeros((0, horizon + 1, 3), np.float32),
            imagined_pos=np.zeros((0, SAMPLES, horizon + 1, 3), np.float32),
            errors=error_bands(open_loop),
        )
    real, imagined, valid = jax.device_get(
        futures(model, transitions, jnp.asarray(moments), horizon=horizon, samples=SAMPLES, key=key)
    )
    place = slice(position[0].start, position[0].stop)
    return OpenLoopPredictions(
        dt=dt,
        real_pos=np.where(valid[..., None], position[0].scale * real[..., place], np.nan),
        imagined_pos=np.where(valid[:, None, :, None], position[0].scale * imagined[..., place], np.nan),
        errors=error_bands(open_loop),
    )


def error_bands(open_loop: GroupErrors, reward: RewardFidelity | None = None) -> dict[str, ErrorBand]:
    """Open-loop error of every group, and of the reward where it was measured; step ``h`` in place ``h - 1``."""
    found = {
        group.name: _error_band(open_loop.of(group.name), "" if group.unit == "1" else group.unit, deviation)
        for group, deviation in zip(open_loop.groups, open_loop.deviation, strict=True)
    }
    if reward is not None:
        found["reward"] = _error_band(reward.error, "", reward.deviation)
    return found


def _error_band(band: Band, unit: str, deviation: Any) -> ErrorBand:
    median, lo, hi = (np.asarray(values) for values in (band.median, band.lo, band.hi))
    return ErrorBand(unit=unit, median=median, lo=lo, hi=hi, deviation=float(deviation))
