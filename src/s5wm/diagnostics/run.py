"""``s5wm imagine``: prediction errors of a run's world model on held-out flights of its own policy."""

import functools as ft
import os
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float

from s5wm.agents.base import AbstractPolicy
from s5wm.diagnostics.diagnosis import Diagnosis
from s5wm.diagnostics.forecast import seen_by
from s5wm.diagnostics.loaded import LoadedRun, tested
from s5wm.diagnostics.predictions import error_bands, position_errors, predict_positions
from s5wm.diagnostics.video_predictions import pixel_errors, predict_videos
from s5wm.envs.base import AbstractCameraEnv, AbstractEnv
from s5wm.envs.host import HostEnv
from s5wm.envs.wrappers import AutoReset
from s5wm.runs.codec import Warn
from s5wm.runs.directory import room_for_results
from s5wm.runs.files import plain
from s5wm.runs.predictions import PREDICTIONS, ErrorBand, save_predictions
from s5wm.runs.provenance import provenance
from s5wm.runs.video_predictions import VIDEO_PREDICTIONS, VideoPrediction, save_video_predictions
from s5wm.training.hosted import unroll_hosted
from s5wm.training.loop import unroll
from s5wm.training.state import init_actor
from s5wm.types import Carry, Extras, Key, Obs, Transition

SEED = 2027  # of the held-out flights

LONGEST = 1000
"""Time steps of a stream that the host steps, whatever the length of an episode."""


class ModePolicy(AbstractPolicy[Carry, Extras]):
    """A policy that never samples, whatever key it is given."""

    policy: AbstractPolicy[Carry, Extras]

    def initial(self) -> Carry:
        """Initial carry of the policy."""
        return self.policy.initial()

    def __call__(
        self, carry: Carry, obs: Obs, is_first: Bool[Array, ""], *, key: Key | None
    ) -> tuple[Carry, Float[Array, " A"], Extras]:
        """The policy's mode."""
        del key
        return self.policy(carry, obs, is_first, key=None)


def imagine_run(
    run: str | Path,
    horizon: int = 50,
    episodes: int = 20,
    *,
    seed: int = SEED,
    out: Path | None = None,
    warn: Warn = lambda _: None,
) -> dict[str, Any]:
    """Measure the newest checkpoint of a run, or a shipped policy; returns metrics as JSON values.

    ``episodes`` environments of the evaluation task run with the policy's mode for as long as one
    episode may last, so that a policy that crashes early begins again.  ``error`` has ``median``, ``lo`` (5 %)
    and ``hi`` (95 %) of each state group and of the reward, step ``h`` in place ``h - 1``, null where no episode
    lasted, and the ``deviation`` of the real values from their mean; ``reward`` their agreement, ``metrics`` the
    rest (``Diagnosis.metrics``).  A shipped policy holds no reward head,
    termination head and critic: it has errors of the state alone.  A model that decodes images has the error of its
    pixels alone.

    Errors and imagined positions go to ``plots/imagination.npz`` of ``out``, by default the run itself, film strips of
    a task with a camera to ``plots/video_prediction.npz``; without ``out``, those of a shipped policy are not kept.
    """
    own = LoadedRun.load(run, warn)
    if out is not None:
        room_for_results(out)
    env = stream_of(tested(own.experiment))
    length = own.check(horizon, episodes)
    if isinstance(env, HostEnv):
        length = max(min(length, LONGEST), horizon + 1)
    if out is None and own.state is not None:
        out = _writable(own.folder, warn)
    k_fly, k_report, k_predict = jr.split(jr.key(seed), 3)
    flown = seen_by(own.model, fly_streams(env, own.policy, episodes=episodes, length=length, key=k_fly))
    strips = video_predictions_of(own, flown, horizon, k_predict)
    predictions = None
    if own.model.config.target == "observation" and strips:
        measured: dict[str, Any] = {"error": {"image": band_figures(pixel_errors(strips))}, "metrics": {}}
    else:
        bands, measured = measure(own, flown, horizon, k_report)
        if out is not None:
            predictions = predict_positions(own, flown, bands, horizon=horizon, key=k_predict)
    if out is not None and strips:
        save_video_predictions(out / VIDEO_PREDICTIONS, strips)
    if out is not None and predictions is not None:
        save_predictions(out / PREDICTIONS, predictions)
    return plain(
        {
            "checkpoint": own.checkpoint,
            **own.about,
            "horizon": horizon,
            "ctrl_dt": env.spec.ctrl_dt,
            **sizes(flown),
            "seed": seed,
            "fans": None if predictions is None else str(PREDICTIONS),
            "video_prediction": str(VIDEO_PREDICTIONS) if strips and out is not None else None,
            **measured,
            **provenance(),
        }
    )


def _writable(folder: Path, warn: Warn) -> Path | None:
    if os.access(folder, os.W_OK):
        return folder
    warn(f"{folder} can only be read: its pictures are not kept; name a folder for them with --out DIR")
    return None


def measure(
    own: LoadedRun, flown: Transition[Any], horizon: int, key: Key
) -> tuple[dict[str, ErrorBand], dict[str, Any]]:
    """Error curves of positions, states and rewards, and metrics, as far as the model has heads."""
    bands = position_errors(own, flown, horizon, key)
    if own.state is None:
        bands |= error_bands(own.errors(flown, horizon, key))
        return bands, {"error": _figures(bands), "metrics": {}}
    found = own.report(flown, horizon, key)
    bands |= error_bands(found.open_loop, found.reward)
    return bands, {"error": _figures(bands), **summarize(found)}


def video_predictions_of(
    own: LoadedRun, flown: Transition[Any], horizon: int, key: Key
) -> list[VideoPrediction]:
    """Video predictions of a task with images: decoded images or, in a race, rendered estimates of the state."""
    env = tested(own.experiment)
    if not env.spec.has_images or not (
        isinstance(env, AbstractCameraEnv) or own.model.config.target == "observation"
    ):
        return []
    return predict_videos(own.model, env, flown, horizon=horizon, key=key)


def sizes(flown: Transition[Any]) -> dict[str, int]:
    """Numbers of episodes and steps."""
    return {"episodes": int(flown.timestep.is_first.sum()), "steps": int(flown.timestep.is_first.size)}


def stream_of(env: AbstractEnv[Any]) -> AbstractEnv[Any]:
    """Episode after episode; environments that the host steps do so themselves."""
    return env if isinstance(env, HostEnv) else AutoReset(env)


def fly_streams(
    env: AbstractEnv[Any], policy: AbstractPolicy[Any, Any], *, episodes: int, length: int, key: Key
) -> Transition[Any]:
    """Transitions ``[episodes, length]`` of an endless stream, with the policy's mode."""
    if isinstance(env, HostEnv):
        return unroll_hosted(env, ModePolicy(policy), num=episodes, length=length, key=key)
    return _fly_compiled(env, policy, episodes=episodes, length=length, key=key)


@ft.partial(jax.jit, static_argnames=("episodes", "length"))
def _fly_compiled(
    env: AbstractEnv[Any], policy: AbstractPolicy[Any, Any], *, episodes: int, length: int, key: Key
) -> Transition[Any]:
    k_reset, k_fly = jr.split(key)
    steady = ModePolicy(policy)
    actor = init_actor(env, steady, episodes, key=k_reset)
    return unroll(env, steady, actor, length=length, key=k_fly)[1]


def summarize(found: Diagnosis) -> dict[str, Any]:
    """Agreement of rewards over the horizon, and scalar metrics."""
    reward = found.reward
    agreements = {"step": reward.step, "total": reward.total}
    return {
        "reward": {
            name: {k: _floats(getattr(found, k)) for k in ("real", "predicted", "correlation", "r2")}
            for name, found in agreements.items()
        },
        "samples": [int(count) for count in np.asarray(reward.step.count)],
        "metrics": found.metrics(),
    }


def _figures(bands: dict[str, ErrorBand]) -> dict[str, Any]:
    return {name: band_figures(band) for name, band in bands.items()}


def band_figures(band: ErrorBand) -> dict[str, Any]:
    """One curve with its band."""
    curves = {name: _floats(getattr(band, name)) for name in ("median", "lo", "hi")}
    return {"unit": band.unit, "deviation": band.deviation, **curves}


def _floats(values: Any) -> list[float]:
    return [float(value) for value in np.asarray(values)]
