"""Adapters of gymnax and brax: pure functions, stepped inside the compiled program."""

import functools as ft
import math
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from s5wm.actions import ActionSpec, Box, Discrete
from s5wm.envs.adapters.arguments import parsed
from s5wm.envs.base import AbstractEnv
from s5wm.envs.task import AbstractTask
from s5wm.envs.wrappers import TimeLimit
from s5wm.errors import ConfigError
from s5wm.types import EnvSpec, Key, TimeStep, first_step, later_step


@dataclass(frozen=True, kw_only=True)
class GymnaxConfig(AbstractTask):
    """An environment of gymnax, by its id.

    ``args`` (``NAME=VALUE``) are fields of its parameters, or arguments of ``gymnax.make``.
    """

    id: str
    args: tuple[str, ...] = ()

    def build(self) -> AbstractEnv[Any]:
        """The environment."""
        return _gymnax_env(self)

    @property
    def max_steps(self) -> int:
        """Its time limit."""
        return int(_gymnax_env(self).params.max_steps_in_episode)


@dataclass(frozen=True, kw_only=True)
class BraxConfig(AbstractTask):
    """An environment of brax, by its name, with ``args`` (``NAME=VALUE``) for its class, e.g. ``backend=spring``."""

    id: str
    args: tuple[str, ...] = ()
    steps: int = 1000  # to truncation

    def build(self) -> "TimeLimit[Any]":
        """The environment with its time limit."""
        return _brax_env(self)

    @property
    def max_steps(self) -> int:
        """The time limit."""
        return self.steps


class GymnaxEnv(AbstractEnv[Any]):
    """Observations are flattened; their own time limit truncates."""

    env: Any = eqx.field(static=True)
    params: Any
    described: EnvSpec

    @property
    def spec(self) -> EnvSpec:
        """From its spaces."""
        return self.described

    def reset(self, key: Key) -> tuple[Any, TimeStep]:
        """A new episode."""
        obs, state = self.env.reset_env(key, self.params)
        return state, first_step(self._read(obs))

    def step(self, state: Any, action: Shaped[Array, "..."], key: Key) -> tuple[Any, TimeStep]:
        """One step, without gymnax's own reset."""
        obs, state, reward, terminated, _ = self.env.step_env(key, state, action, self.params)
        terminated = jnp.asarray(terminated, bool)
        is_last = terminated | self.env.is_truncated(state, self.params)
        return state, later_step(
            self._read(obs), jnp.reshape(reward, ()), is_last=is_last, is_terminal=terminated
        )

    def _read(self, obs: Any) -> Float[Array, " O"]:
        (size,) = self.spec.obs_shape
        values = jnp.asarray(obs)
        if values.ndim == 0:
            return jax.nn.one_hot(values, size)
        return values.astype(jnp.float32).reshape(size)


class BraxEnv(AbstractEnv[Any]):
    """``done`` is terminal; brax's own wrappers are not used."""

    env: Any = eqx.field(static=True)
    described: EnvSpec

    @property
    def spec(self) -> EnvSpec:
        """A vector in, numbers in [-1, 1] out."""
        return self.described

    def reset(self, key: Key) -> tuple[Any, TimeStep]:
        """A new episode."""
        state = self.env.reset(key)
        return state, first_step(jnp.asarray(state.obs, jnp.float32))

    def step(self, state: Any, action: Float[Array, " A"], key: Key) -> tuple[Any, TimeStep]:
        """One step; deterministic."""
        del key
        state = self.env.step(state, action)
        done = jnp.asarray(state.done, bool)
        obs = jnp.asarray(state.obs, jnp.float32)
        return state, later_step(obs, jnp.reshape(state.reward, ()), is_last=done, is_terminal=done)


@ft.cache
def _gymnax_env(config: GymnaxConfig) -> GymnaxEnv:
    try:
        import gymnax  # pyright: ignore[reportMissingImports] -- an extra of its own
    except ModuleNotFoundError as error:
        raise ConfigError(f"gymnax cannot be imported ({error}): pip install 's5wm[gymnax]'") from error
    args = parsed(config.args)
    try:
        env, params = gymnax.make(config.id)
        known = {f.name for f in params.__dataclass_fields__.values()}
        env, params = gymnax.make(config.id, **{k: v for k, v in args.items() if k not in known})
        params = params.replace(**{k: v for k, v in args.items() if k in known})
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"gymnax:{config.id} cannot be made: {error}") from error
    shown = env.observation_space(params)
    size = int(shown.n) if hasattr(shown, "n") else math.prod(shown.shape)
    spec = EnvSpec((size,), np.dtype(np.float32), _gymnax_action(env.action_space(params)), ctrl_dt=1.0)
    return GymnaxEnv(env=env, params=params, described=spec)


def _gymnax_action(space: Any) -> ActionSpec:
    try:
        if hasattr(space, "n"):
            return Discrete(int(space.n))
        width = math.prod(space.shape)
        low, high = (
            tuple(float(x) for x in np.broadcast_to(np.asarray(bound), space.shape).reshape(width))
            for bound in (space.low, space.high)
        )
        return Box(tuple(space.shape), low=low, high=high)
    except ValueError as error:
        raise ConfigError(f"its action: {error}") from error


@ft.cache
def _brax_env(config: BraxConfig) -> "TimeLimit[Any]":
    try:
        from brax import envs  # pyright: ignore[reportMissingImports] -- an extra of its own
    except ModuleNotFoundError as error:
        raise ConfigError(f"brax cannot be imported ({error}): pip install 's5wm[brax]'") from error
    try:
        env = envs.get_environment(config.id, **parsed(config.args))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"brax:{config.id} cannot be made: {error!r}") from error
    if not isinstance(env.observation_size, int):
        raise ConfigError(f"brax:{config.id} shows {env.observation_size}; agents read one vector")
    # Brax resets an environment to find its sizes, which cannot be done while a program is traced.
    action = Box((int(env.action_size),))
    period = float(getattr(env, "dt", 1.0))
    spec = EnvSpec((env.observation_size,), np.dtype(np.float32), action, ctrl_dt=period)
    return TimeLimit(BraxEnv(env=env, described=spec), config.steps)
