"""A trained policy outside of training: found by name, loaded without running anything, driven with NumPy."""

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float
from numpy.typing import NDArray

from s5wm.agents.base import AbstractPolicy
from s5wm.codec import Warn, suggest
from s5wm.envs.base import bounded
from s5wm.errors import CorruptError, RunDirectoryError
from s5wm.experiment import Experiment, load_experiment
from s5wm.train.checkpoint import Checkpoints
from s5wm.train.directory import CONFIG, RunDirectory
from s5wm.train.files import MANIFEST, read_json, verify_manifest
from s5wm.train.policyfile import load_policy
from s5wm.types import EnvSpec

PREFIX = "pretrained/"

Which = Literal["best", "latest"]


class ActingState(eqx.Module):
    """What an agent remembers between two observations."""

    carry: Any
    is_new: Bool[Array, ""]  # no observation yet


@jax.jit
def _act(
    policy: AbstractPolicy[Any, Any], state: ActingState, obs: Array, first: Bool[Array, ""]
) -> tuple[Float[Array, " A"], ActingState]:
    carry, action, _ = policy(state.carry, obs, state.is_new | first, key=None)
    return bounded(action), ActingState(carry, jnp.zeros((), bool))


@dataclass(frozen=True)
class TrainedAgent:
    """Acts with the mode of a policy; observations are those of the task it was trained on."""

    experiment: Experiment
    policy: AbstractPolicy[Any, Any]
    source: Path

    @cached_property
    def spec(self) -> EnvSpec:
        """What the task shows and takes."""
        return self.experiment.build_env().spec

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Of one observation: a vector, or an image of uint8 pixels."""
        return self.spec.obs_shape

    def init(self) -> ActingState:
        """Before the first observation."""
        return ActingState(self.policy.initial(), jnp.ones((), bool))

    def act(
        self, obs: NDArray[Any] | Array, state: ActingState, *, first: bool = False
    ) -> tuple[NDArray[np.float32], ActingState]:
        """Action in ``[-1, 1]`` for one observation; ``first=True`` says that a new episode begins with it."""
        given = checked_observation(obs, self.spec)
        action, state = _act(self.policy, state, jnp.asarray(given), jnp.asarray(first))
        return np.asarray(action), state


def checked_observation(obs: NDArray[Any] | Array, spec: EnvSpec) -> NDArray[Any]:
    """One observation in the dtype of the task; raises ``ValueError`` naming shape and dtype if it is none.

    Any real numbers make a vector.  Pixels must come as uint8: floats could mean 0 to 1 as well as 0 to 255.
    """
    given = np.asarray(obs)
    fits = given.dtype == spec.obs_dtype if spec.has_images else given.dtype.kind in "fiu"
    if given.shape != spec.obs_shape or not fits:
        raise ValueError(
            f"an observation of shape {given.shape} and dtype {given.dtype} was given, "
            f"{spec.obs_shape} and {spec.obs_dtype} is expected: pass one at a time"
            + (", its pixels as uint8 from 0 to 255" if spec.has_images else "")
        )
    return given.astype(spec.obs_dtype, copy=False)


def pretrained_folder() -> Path:
    """Where shipped policies are installed."""
    return Path(str(files("s5wm"))) / "pretrained"


def pretrained_names() -> list[str]:
    """Names of shipped policies."""
    return sorted(PREFIX + p.parent.name for p in pretrained_folder().glob("*/policy.npz"))


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
    known = sorted(str(p.parent) for p in Path("runs").glob(f"*/{CONFIG}")) + pretrained_names()
    raise RunDirectoryError(f"{text} is not a run (no {CONFIG})" + suggest(text, known or ["none yet"]))


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory rather than a single policy."""
    return not (folder / "policy.npz").is_file()


def load_agent(run: str | Path, *, which: Which, say: Warn) -> TrainedAgent:
    """The policy of a run (the best evaluated or the latest saved) or a shipped one."""
    folder = find(run)
    experiment = load_experiment(folder / CONFIG, warn=say)
    source = _policy_folder(folder, which, say)
    env = experiment.build_env()
    agent = experiment.build_agent(env)
    template = jax.eval_shape(lambda: agent.policy(agent.init(jr.key(0))))
    return TrainedAgent(experiment, load_policy(source / "policy.npz", template), source)


def _policy_folder(folder: Path, which: Which, say: Warn) -> Path:
    if not is_run(folder):
        verify_manifest(folder)
        return folder
    directory = RunDirectory(folder)
    if which == "best" and (directory.best / MANIFEST).is_file():
        try:
            verify_manifest(directory.best)
        except CorruptError as error:
            say(f"the best policy is damaged ({error}); taking the latest")
        else:
            return directory.best
    newest = Checkpoints(directory.checkpoints, keep=1).newest(say)
    if newest is None:
        raise RunDirectoryError(f"{folder} has no policy yet: train until the first evaluation or checkpoint")
    return newest


def trained_steps(source: Path) -> int | None:
    """Environment steps that a policy was trained for, where its folder tells."""
    for name in ("host.json", "eval.json"):
        if (source / name).is_file():
            return read_json(source / name).get("env_steps")
    return None
