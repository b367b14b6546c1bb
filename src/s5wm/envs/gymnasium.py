"""Gymnasium adapters (optional dependency): one copy, or many copies in one compiled step.

Both run ``AutoReset`` over the same pure functions.  Copy ``i`` of ``GymVectorEnv.reset(seed=s)`` lives
through exactly what ``GymEnv.reset(seed=s + i)`` does.  A reset with a seed makes a fresh copy; a reset
without one starts the next episode of the living copy.
"""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Array, Float, UInt32
from numpy.typing import NDArray

from s5wm.envs.base import AbstractEnv, EnvSpec
from s5wm.envs.hover import HoverConfig
from s5wm.envs.racing.task import RacingConfig, figure_8_by_camera
from s5wm.envs.racing.track import Figure8Config, SplitSConfig
from s5wm.envs.wrappers import AutoReset, AutoResetState
from s5wm.types import Key, TimeStep

Values = NDArray[Any]


@runtime_checkable
class EnvConfig(Protocol):
    """Any environment's configuration."""

    def build(self) -> AbstractEnv[Any]:
        """The environment it describes."""
        ...


class _Copy(eqx.Module):
    """A living copy of an environment and the key of all that will happen to it."""

    state: AutoResetState[Any]
    key: Key


@jax.jit
def _create(env: AutoReset[Any], seed: UInt32[Array, " N"]) -> tuple[_Copy, TimeStep]:
    def create(seed: UInt32[Array, ""]) -> tuple[_Copy, TimeStep]:
        key, k_reset = jr.split(jr.key(seed))
        state, timestep = env.reset(k_reset)
        return _Copy(state, key), timestep

    return jax.vmap(create)(seed)


@jax.jit
def _advance(env: AutoReset[Any], copy: _Copy, action: Float[Array, "N A"]) -> tuple[_Copy, TimeStep]:
    def advance(copy: _Copy, action: Float[Array, " A"]) -> tuple[_Copy, TimeStep]:
        key, k_step = jr.split(copy.key)
        state, timestep = env.step(copy.state, action, k_step)
        return _Copy(state, key), timestep

    return jax.vmap(advance)(copy, action)


class _Fleet:
    """``N`` copies on the device, driven from the host."""

    def __init__(self, env: AbstractEnv[Any], num_envs: int) -> None:
        self.env = AutoReset(env)
        self.action_shape = (num_envs, env.spec.action_size)
        self.copies: _Copy | None = None

    def create(self, seed: int) -> TimeStep:
        """Fresh copies, of seeds ``seed, seed + 1, ...``."""
        seeds = (seed + np.arange(self.action_shape[0])) % 2**32
        self.copies, timestep = _create(self.env, jnp.asarray(seeds.astype(np.uint32)))
        return timestep

    def begin(self) -> TimeStep:
        """The next episode of every living copy."""
        copies = self._living()
        # A step after is_last is a restart: one compiled function serves both.
        is_last = jnp.ones_like(copies.state.is_last)
        self.copies = eqx.tree_at(lambda c: c.state.is_last, copies, is_last)
        return self.advance(np.zeros(self.action_shape, np.float32))

    def advance(self, action: Values) -> TimeStep:
        """One row."""
        action = np.asarray(action, np.float32).reshape(self.action_shape)
        self.copies, timestep = _advance(self.env, self._living(), jnp.asarray(action))
        return timestep

    def _living(self) -> _Copy:
        if self.copies is None:
            raise gym.error.ResetNeeded("The environment has no state yet: call reset() before step().")
        return self.copies


class GymEnv(gym.Env[Values, Values]):
    """One copy of an environment; reward is ``nominal + smoothing``."""

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, env: AbstractEnv[Any]) -> None:
        self._fleet = _Fleet(env, 1)
        self.observation_space = _observation_space(env.spec)
        self.action_space = _action_space(env.spec)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Values, dict[str, Any]]:
        """A fresh copy from ``seed``, or the next episode of this one; no options exist."""
        super().reset(seed=seed)
        del options
        if seed is not None or self._fleet.copies is None:
            timestep = self._fleet.create(_seed(seed, self.np_random))
        else:
            timestep = self._fleet.begin()
        return np.array(timestep.obs[0]), {}

    def step(self, action: Values) -> tuple[Values, float, bool, bool, dict[str, Any]]:
        """One control period; call ``reset`` after ``terminated`` or ``truncated``."""
        timestep = jax.device_get(self._fleet.advance(action))
        terminated, truncated = bool(timestep.is_terminal[0]), bool(timestep.is_last[0])
        reward = float(timestep.reward.nominal[0] + timestep.reward.smoothing[0])
        return np.array(timestep.obs[0]), reward, terminated, truncated and not terminated, {}


class GymVectorEnv(VectorEnv[Values, Values, Values]):
    """``num_envs`` copies in one compiled step, with next-step reset as ``AutoReset`` does it.

    The final observation of an episode has a row of its own; the step after it ignores its action and
    returns the first observation of the next episode with zero reward.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, env: AbstractEnv[Any], num_envs: int) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; a vector environment needs copies: give at least 1.")
        self._fleet = _Fleet(env, num_envs)
        self.num_envs = num_envs
        self.single_observation_space = _observation_space(env.spec)
        self.single_action_space = _action_space(env.spec)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Values, dict[str, Any]]:
        """Fresh copies from ``seed``, or the next episode of every living one; no options exist."""
        super().reset(seed=seed)
        del options
        if seed is not None or self._fleet.copies is None:
            timestep = self._fleet.create(_seed(seed, self.np_random))
        else:
            timestep = self._fleet.begin()
        return np.array(timestep.obs), {}

    def step(self, actions: Values) -> tuple[Values, Values, Values, Values, dict[str, Any]]:
        """One row of each copy."""
        timestep = jax.device_get(self._fleet.advance(actions))
        reward = np.asarray(timestep.reward.nominal + timestep.reward.smoothing, np.float64)
        terminated = np.array(timestep.is_terminal)
        return np.array(timestep.obs), reward, terminated, timestep.is_last & ~terminated, {}


def register() -> None:
    """Makes the tasks known to ``gymnasium.make`` and ``gymnasium.make_vec``; twice does no harm.

    They are the races as trained on; pass ``config=RacingConfig(...).evaluation()`` for the rules of a test.
    """
    tasks: dict[str, EnvConfig] = {
        "s5wm/SplitS-v0": RacingConfig(track=SplitSConfig()),
        "s5wm/Figure8State-v0": RacingConfig(track=Figure8Config()),
        "s5wm/Figure8-v0": figure_8_by_camera(),
        "s5wm/Hover-v0": HoverConfig(),
    }
    for name, config in tasks.items():
        if name not in gym.registry:
            gym.register(
                name,
                entry_point="s5wm.envs.gymnasium:make_single",
                vector_entry_point="s5wm.envs.gymnasium:make_vector",
                kwargs={"config": config},
            )


def make_single(config: EnvConfig) -> GymEnv:
    """Entry point of ``gymnasium.make``; pass ``config=`` to change the task."""
    return GymEnv(config.build())


def make_vector(config: EnvConfig, num_envs: int = 1) -> GymVectorEnv:
    """Entry point of ``gymnasium.make_vec``; pass ``config=`` to change the task."""
    return GymVectorEnv(config.build(), num_envs)


def _observation_space(spec: EnvSpec) -> spaces.Box:
    if spec.obs_dtype == np.uint8:
        return spaces.Box(0, 255, spec.obs_shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, spec.obs_shape, np.float32)


def _action_space(spec: EnvSpec) -> spaces.Box:
    return spaces.Box(-1.0, 1.0, (spec.action_size,), np.float32)


def _seed(seed: int | None, generator: np.random.Generator) -> int:
    return int(generator.integers(2**31)) if seed is None else seed
