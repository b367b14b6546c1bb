"""A trained policy outside of training: found by name, loaded without executing code, used with NumPy."""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Shaped
from numpy.typing import NDArray

from s5wm.actions import ActionSpec
from s5wm.agents.base import AbstractPolicy, is_finite
from s5wm.envs.base import AbstractEnv
from s5wm.envs.host import HostEnv
from s5wm.errors import ConfigError, CorruptError, ObservationError, RunDirectoryError
from s5wm.experiments.experiment import Experiment, load_runnable
from s5wm.experiments.names import PREFIX
from s5wm.experiments.names import pretrained_folder as pretrained_folder
from s5wm.experiments.names import pretrained_names as pretrained_names
from s5wm.runs.checkpoint import Checkpoints
from s5wm.runs.codec import Warn, suggest
from s5wm.runs.directory import CONFIG, RunDirectory
from s5wm.runs.files import MANIFEST, read_json, verify_manifest, whole_folder
from s5wm.runs.policyfile import load_policy
from s5wm.types import EnvSpec, MixedObs, Obs

Which = Literal["best", "latest"]
Kind = Literal["best", "latest", "shipped"]


class ActingState(eqx.Module):
    """Memory of an agent between two observations; with a leading axis ``N`` for ``N`` drones."""

    carry: Any
    is_new: Bool[Array, "*n"]  # no observation yet


class _Acted(eqx.Module):
    action: Shaped[Array, "..."]  # [*n, ...] in the form that the environment takes
    state: ActingState
    is_finite: Bool[Array, "*n"]  # action and memory are


@ft.partial(jax.jit, static_argnames="spec")
def _act(
    policy: AbstractPolicy[Any, Any],
    state: ActingState,
    obs: Obs,
    first: Bool[Array, "*n"],
    *,
    spec: ActionSpec,
) -> _Acted:
    def act(carry: Any, obs: Obs, first: Bool[Array, ""]) -> _Acted:
        carry, action, _ = policy(carry, obs, first, key=None)
        state = ActingState(carry, jnp.zeros((), bool))
        return _Acted(spec.decode(action), state, is_finite((carry, action)))

    is_first = state.is_new | first
    return (jax.vmap(act) if is_first.ndim else act)(state.carry, obs, is_first)


@dataclass(frozen=True, repr=False)
class TrainedAgent:
    """Acts with the mode of a policy; observations are those of the task it was trained on."""

    experiment: Experiment
    policy: AbstractPolicy[Any, Any]
    source: Path  # that it was loaded from; a training may have replaced or removed it since
    kind: Kind
    env_steps: int | None  # that it was trained for; None where that is not recorded

    def __repr__(self) -> str:
        name, spec, steps = self.experiment.name, self.spec, self.env_steps
        trained = "" if steps is None else f", {steps:,} environment steps"
        what = " ".join(part for part in (name.agent, name.size, name.task) if part) or "no preset"
        return f"TrainedAgent({what}; {self.source}{trained}; obs {spec.obs_shape}, action ({spec.action_size},))"

    @cached_property
    def env(self) -> AbstractEnv[Any]:
        """The task's environment, or the placeholder of one outside of the program."""
        return self.experiment.build_env()

    @property
    def spec(self) -> EnvSpec:
        """Observation and action specs of the task."""
        return self.env.spec

    def _read(self, obs: Any, count: tuple[int, ...]) -> Any:
        """Encode an observation of a user's environment for the agent."""
        if not isinstance(self.env, HostEnv):
            return obs
        try:
            return self.env.encode(obs, count[0] if count else None)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            why = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
            raise ObservationError(
                f"this observation cannot be read ({why}): pass what reset and step of the "
                "environment return, one at a time, or N of them with the state of init(N)"
            ) from error

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of one observation: a vector, or an image of uint8 pixels."""
        return self.spec.obs_shape

    def init(self, num: int | None = None) -> ActingState:
        """Memory before the first observation; of ``num`` drones with a memory each, which act together."""
        state = ActingState(self.policy.initial(), jnp.ones((), bool))
        if num is None:
            return state
        if num < 1:
            raise ValueError(f"num is {num}; it must be at least 1, or None for one drone without an axis")
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *leaf.shape)), state)

    def act(
        self, obs: Any, state: ActingState, *, first: bool | NDArray[np.bool_] = False
    ) -> tuple[NDArray[Any], ActingState]:
        """Action for one observation, in the form that the task takes (of a race ``[A]`` in ``[-1, 1]``).

        ``first=True``: a new episode begins with this observation.

        With a state of ``init(N)``: ``[N, A]`` for ``N`` observations, and ``first`` may be ``[N]``.

        An observation that no action can come from raises ``ObservationError``: another shape or dtype than the
        task's, a number that is NaN or infinite, or numbers so large that the policy overflows.  ``state`` is
        never changed, so the caller goes on with it at the next good observation, as if the bad one had not come.
        What to fly until then, the last action or a hover, is for the caller to decide.
        """
        count = state.is_new.shape
        given = checked_observation(self._read(obs, count), self.spec, count)
        first_rows = np.asarray(first)
        if first_rows.dtype != np.bool_ or first_rows.shape not in ((), count):
            raise ValueError(
                f"first is {first!r}; it must be True or False" + (f" or {count[0]} of them" * len(count))
            )
        acted = _act(
            self.policy,
            state,
            jax.tree.map(jnp.asarray, given),
            jnp.asarray(first_rows),
            spec=self.spec.action,
        )
        if not np.all(acted.is_finite):
            raise ObservationError(self._blame(given, np.asarray(acted.is_finite)))
        action = np.asarray(acted.action)
        if isinstance(self.env, HostEnv):
            action = np.asarray(self.env.give(action) if count else self.env.give(action[None])[0])
        return action, acted.state

    def _blame(self, obs: Any, is_finite: NDArray[np.bool_]) -> str:
        """Why a finite observation gave no finite action and memory."""
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(self.policy)):
            return f"the policy of {self.source} has parameters that are not finite: load another (which='latest')"
        row = 0 if is_finite.ndim == 0 else int(np.argmin(is_finite))
        parts = jax.tree.leaves(obs)
        largest = max(np.abs(part if is_finite.ndim == 0 else part[row]).max() for part in parts)
        where = f" {row}" if is_finite.ndim else ""
        return (
            f"observation{where} makes the policy overflow (its largest number is {largest:g}), or the state that was "
            "given is not finite: pass observations in the task's units, and the state that the last act returned"
        )


def checked_observation(obs: Any, spec: EnvSpec, count: tuple[int, ...] = ()) -> Any:
    """Observations ``[*count, ...]`` in the dtype of the task; raises ``ObservationError`` if these are none.

    Any finite real numbers make a vector.  Pixels must come as uint8: floats could mean 0 to 1 as well as 0 to 255.
    """
    if not spec.vector_size:
        return _checked_array(obs, spec, count)
    if not isinstance(obs, MixedObs):
        raise ObservationError(
            f"an observation of {type(obs).__name__} was given; this task shows an image and numbers: pass "
            "what its environment gives, or s5wm.types.MixedObs"
        )
    image, numbers = (
        replace(spec, vector_size=0),
        replace(spec, obs_shape=(spec.vector_size,), obs_dtype=np.dtype(np.float32), vector_size=0),
    )
    return MixedObs(_checked_array(obs.image, image, count), _checked_array(obs.vector, numbers, count))


def _checked_array(obs: NDArray[Any] | Array, spec: EnvSpec, count: tuple[int, ...]) -> NDArray[Any]:
    given = np.asarray(obs)
    expected = (*count, *spec.obs_shape)
    fits = given.dtype == spec.obs_dtype if spec.has_images else given.dtype.kind in "fiu"
    if given.shape != expected or not fits:
        raise ObservationError(
            f"an observation of shape {given.shape} and dtype {given.dtype} was given, "
            f"{expected} and {spec.obs_dtype} is expected: pass one at a time, or N with the state of init(N)"
            + (", pixels as uint8 from 0 to 255" if spec.has_images else "")
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is named below
        cast = given.astype(spec.obs_dtype, copy=False)
    if not np.isfinite(cast).all():
        place = tuple(int(index) for index in np.argwhere(~np.isfinite(cast))[0])
        raise ObservationError(
            f"the observation is {given[place]} at index {', '.join(map(str, place))}; every number must be finite in "
            "float32: drop this observation, fly on with the last action, and call act with the same state at the next"
        )
    return cast


def find(run: str | Path) -> Path:
    """Folder of a run or of a shipped policy (``pretrained/NAME``)."""
    path = Path(run)
    if (path / CONFIG).is_file():
        return path
    text = str(run)
    if text.startswith(PREFIX):
        shipped = pretrained_folder() / text.removeprefix(PREFIX)
        if (shipped / CONFIG).is_file():
            return shipped
        raise RunDirectoryError(
            f"no shipped policy {text!r}" + suggest(text, pretrained_names() or ["none yet"])
        )
    if seeds := sorted(str(p.parent) for p in path.glob(f"seed-*/{CONFIG}")):
        raise RunDirectoryError(f"{text} holds the runs of several seeds; name one of {', '.join(seeds)}")
    if (path / "card.json").is_file():
        raise RunDirectoryError(f"{text} is an exported policy and no run: fly it with s5wm fly {text}")
    known = sorted(str(p.parent) for p in Path("runs").glob(f"*/{CONFIG}")) + pretrained_names()
    raise RunDirectoryError(f"{text} is not a run (no {CONFIG})" + suggest(text, known or ["none yet"]))


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory rather than a single policy."""
    return not (folder / "policy.npz").is_file()


def load_agent(run: str | Path, *, which: Which, warn: Warn) -> TrainedAgent:
    """Load a policy of a run (the best by evaluation, or the latest: that of the newest checkpoint) or a shipped one.

    A run that lacks the one gives the other, and ``warn`` says so.
    """
    folder = find(run)
    experiment = load_runnable(folder, warn=warn)
    source, kind = _policy_folder(folder, which, warn)
    env_steps = _trained_steps(source)
    env = experiment.build_env()
    agent = experiment.build_agent(env)
    template = jax.eval_shape(lambda: agent.policy(agent.init(jr.key(0))))
    return TrainedAgent(experiment, load_policy(source / "policy.npz", template), source, kind, env_steps)


def _policy_folder(folder: Path, which: Which, warn: Warn) -> tuple[Path, Kind]:
    if not is_run(folder):
        verify_manifest(folder)
        return folder, "shipped"
    directory = RunDirectory(folder)
    places: dict[Which, Callable[[], Path | None]] = {
        "best": lambda: _best_folder(directory, warn),
        "latest": lambda: Checkpoints(directory.checkpoints, keep=1).newest(warn),
    }
    if (asked := places.pop(which)()) is not None:
        return asked, which
    ((other, place),) = places.items()
    if (found := place()) is None:
        raise RunDirectoryError(f"{folder} has no policy yet: train until the first evaluation or checkpoint")
    warn(f"{folder} holds no whole {which} policy; taking the {other} one")
    return found, other


def _best_folder(directory: RunDirectory, warn: Warn) -> Path | None:
    best = whole_folder(directory.best)
    if not (best / MANIFEST).is_file():
        return None
    try:
        verify_manifest(best)
    except CorruptError as error:
        warn(f"the best policy is damaged ({error})")
        return None
    return best


def _trained_steps(source: Path) -> int | None:
    """Environment steps that a policy was trained for, where its folder records them."""
    for name in ("host.json", "eval.json"):
        if (source / name).is_file():
            return read_json(source / name).get("env_steps")
    return None
