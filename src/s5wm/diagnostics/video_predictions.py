"""Video predictions: what the camera saw, what the world model reconstructs, and what it predicts open loop.

A model that decodes images shows its own.  One that decodes the privileged state is drawn by the camera of the task,
from where the model estimates the drone to be: a ghost, flying in the same scene.
"""

import functools as ft
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from s5wm.agents.dreamer.stored import StoredLatent, to_chunk
from s5wm.diagnostics.forecast import Reach, describe, filtered, forecast
from s5wm.diagnostics.predictions import choose_moments
from s5wm.envs.base import AbstractCameraEnv, AbstractEnv
from s5wm.runs.predictions import ErrorBand
from s5wm.runs.video_predictions import VideoPrediction
from s5wm.types import Key, MixedObs, Obs, Transition
from s5wm.worldmodel.model import WorldModel


def predict_videos(
    model: WorldModel[Any],
    env: AbstractEnv[Any],
    transitions: Transition[StoredLatent[Any]],
    *,
    horizon: int,
    key: Key,
) -> list[VideoPrediction]:
    """One prediction from each of a few moments, from which the flight goes on for as long as any does.

    A model that decodes the privileged state needs the camera of a race.
    """
    reach = Reach.of(transitions.timestep.is_first[:, 1:], horizon=horizon, stride=1)
    predictions: list[VideoPrediction] = []
    is_ghost = model.config.target == "privileged"
    for moment in choose_moments(reach):
        flight = jax.tree.map(lambda x, f=moment[0]: x[f : f + 1], transitions)
        real, is_valid, *states = predict_video(
            model, flight, jnp.asarray(moment[1]), horizon=horizon, key=key
        )
        show = ft.partial(ghost_images, env) if isinstance(env, AbstractCameraEnv) and is_ghost else _rounded
        estimated, predicted = (show(state) for state in states)
        predictions.append(
            VideoPrediction(
                dt=env.spec.ctrl_dt,
                real=np.asarray(real),
                estimated=np.asarray(estimated),
                predicted=np.asarray(predicted),
                is_ghost=is_ghost,
                steps=int(is_valid.sum()) - 1,
            )
        )
    return predictions


@ft.partial(jax.jit, static_argnames="horizon")
def predict_video(
    model: WorldModel[Any],
    flight: Transition[StoredLatent[Any]],
    step: Int[Array, ""],
    *,
    horizon: int,
    key: Key,
) -> tuple[UInt8[Array, "H1 h w c"], Bool[Array, " H1"], Float[Array, "H1 ..."], Float[Array, "H1 ..."]]:
    """Images of one flight ``[1, T+1]`` from one step on, which of them are of the episode of the first, the state
    decoded at each, and the open loop.

    Steps beyond the window repeat its last one, and are not of it.
    """
    chunk = to_chunk(flight)
    belief = filtered(model, chunk, key).belief
    wanted, last = step + jnp.arange(horizon + 1), chunk.timestep.is_first.shape[1] - 1
    place = jnp.minimum(wanted, last)
    episode = jnp.cumsum(chunk.timestep.is_first[0])
    is_valid = (wanted <= last) & (episode[place] == episode[step])
    followed = jax.tree.map(lambda x: x[0, place], belief)
    estimated = _image(describe(model, followed.latent.feature).state)
    begun = jax.tree.map(lambda x: x[:1], followed)
    said = _image(forecast(model, begun, chunk.action[:, place[:-1]], key=key).state)[0]
    return _image(chunk.timestep.obs)[0, place], is_valid, estimated, jnp.concatenate([estimated[:1], said])


def _image(obs: Obs) -> Array:
    """The image of an observation; other arrays as they are."""
    return jnp.asarray(obs.image) if isinstance(obs, MixedObs) else obs


@jax.jit
def ghost_images(env: AbstractCameraEnv[Any], states: Float[Array, "H1 Y"]) -> UInt8[Array, "H1 h w 3"]:
    """What the task's camera would see from privileged states."""
    return env.pictures_of(states)


def _rounded(images: Float[Array, "H1 h w c"]) -> UInt8[Array, "H1 h w c"]:
    return jnp.round(255.0 * jnp.clip(images, 0.0, 1.0)).astype(jnp.uint8)


def pixel_errors(predictions: list[VideoPrediction]) -> ErrorBand:
    """Mean absolute difference of predicted and real pixels, of 255, against the horizon, over the moments.

    NaN where no episode lasted.
    """
    errors = np.stack([_pixel_errors(one) for one in predictions])
    lo, median, hi = np.full((3, errors.shape[1]), np.nan)
    known = np.isfinite(errors).any(axis=0)
    lo[known], median[known], hi[known] = np.nanpercentile(errors[:, known], [5, 50, 95], axis=0)
    return ErrorBand(unit="/255", median=median, lo=lo, hi=hi)


def _pixel_errors(one: VideoPrediction) -> Float[np.ndarray, " H"]:
    errors = np.abs(one.predicted.astype(float) - one.real.astype(float)).mean(axis=(1, 2, 3))
    return np.where(np.arange(len(errors)) <= one.steps, errors, np.nan)[1:]
