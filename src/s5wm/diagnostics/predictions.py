"""Imagined and real futures from a few moments of real flights."""

import functools as ft
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from s5wm.agents.dreamer.stored import StoredLatent, to_chunk
from s5wm.diagnostics.diagnosis import GroupErrors, RewardFidelity, open_loop_states, raw_state
from s5wm.diagnostics.forecast import Reach, describe, filtered, forecast
from s5wm.diagnostics.loaded import LoadedRun, state_groups, tested
from s5wm.diagnostics.positions import track_of_task
from s5wm.diagnostics.statistics import Band, with_gaps
from s5wm.envs.groups import Group
from s5wm.runs.predictions import ErrorBand, OpenLoopPredictions
from s5wm.types import Key, Transition
from s5wm.worldmodel.model import WorldModel

MOMENTS = 12
SAMPLES = 8

POSITION = Group(name="position", start=0, stop=3, unit="m")

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
    own: LoadedRun,
    transitions: Transition[StoredLatent[Any]],
    errors: Mapping[str, ErrorBand],
    *,
    horizon: int,
    key: Key,
) -> OpenLoopPredictions:
    """Predictions for ``s5wm.runs.predictions`` beside these errors, without positions where the states hold none."""
    model = own.model
    reach = Reach.of(transitions.timestep.is_first[:, 1:], horizon=horizon, stride=1)
    moments = choose_moments(reach)
    real_pos = np.zeros((0, horizon + 1, 3), np.float32)
    imagined_pos = np.zeros((0, SAMPLES, horizon + 1, 3), np.float32)
    if len(moments) and _has_positions(own, transitions):
        real, imagined, valid = jax.device_get(
            futures(model, transitions, jnp.asarray(moments), horizon=horizon, samples=SAMPLES, key=key)
        )
        real_pos = np.where(valid[..., None], _positions(own, real), np.nan)
        imagined_pos = np.where(valid[:, None, :, None], _positions(own, imagined), np.nan)
    return OpenLoopPredictions(
        dt=tested(own.experiment).spec.ctrl_dt,
        real_pos=real_pos,
        imagined_pos=imagined_pos,
        errors=errors,
        about=own.about | asdict(own.experiment.name),
        track=track_of_task(own.experiment.task),
    )


def _has_positions(own: LoadedRun, transitions: Transition[StoredLatent[Any]]) -> bool:
    one = raw_state(own.model, jax.tree.map(lambda x: x[:1, :1], transitions.timestep))
    return own.positions(np.asarray(one)) is not None


def _positions(own: LoadedRun, state: Float[np.ndarray, "*b Y"]) -> Float[np.ndarray, "*b 3"]:
    found = own.positions(state)
    assert found is not None, "only states that hold positions are asked for them"
    return found


def position_errors(
    own: LoadedRun, transitions: Transition[StoredLatent[Any]], horizon: int, key: Key
) -> dict[str, ErrorBand]:
    """Errors of the positions that follow from the states, by the name ``position``.

    They are of the same predictions as ``open_loop_errors`` with this key.  Nothing where the states hold no position,
    or have a group of it.
    """
    if any(group.name == "position" for group in state_groups(own.experiment) or ()):
        return {}
    if not _has_positions(own, transitions):
        return {}
    predicted, real, valid = jax.device_get(open_loop_states(own.model, transitions, horizon, key))
    measured = _measured_positions(_positions(own, predicted), _positions(own, real), valid)
    return error_bands(with_gaps(measured))


@jax.jit
def _measured_positions(
    predicted: Float[Array, "K H 3"], real: Float[Array, "K H 3"], valid: Bool[Array, "K H"]
) -> GroupErrors:
    return GroupErrors.measure((POSITION,), predicted, real, valid)


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
