"""Wrappers that add what most environments lack: the next episode, and an end to the present one."""

from dataclasses import replace
from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Int, Shaped

from s5wm.envs.base import AbstractEnv, AbstractWrapper, EnvSpec, picture_of
from s5wm.envs.readable import ReadableMetrics
from s5wm.types import EpisodeMetrics, Key, MixedObs, Obs, TimeStep

State = TypeVar("State")
Tree = TypeVar("Tree")


class AutoResetState(eqx.Module, Generic[State]):
    """State of the wrapped environment, and whether its last time step ended an episode."""

    inner: State
    is_last: Bool[Array, ""]


class AutoReset(AbstractWrapper[AutoResetState[State]], Generic[State]):
    """An endless stream of episodes, with next-step reset.

    The final observation keeps a time step of its own (``is_last``).  The step after it ignores its action
    and returns the first time step of the next episode (``is_first``, zero reward), which comes from
    ``restart`` so that what outlives episodes is kept.
    """

    env: AbstractEnv[State]

    @property
    def spec(self) -> EnvSpec:
        """That of the wrapped environment."""
        return self.env.spec

    def reset(self, key: Key) -> tuple[AutoResetState[State], TimeStep]:
        """First episode of the wrapped environment."""
        inner, timestep = _strong(self.env.reset(key))
        return AutoResetState(inner, timestep.is_last), timestep

    def restart(self, state: AutoResetState[State], key: Key) -> tuple[AutoResetState[State], TimeStep]:
        """Next episode at once, whether or not the present one has ended."""
        inner, timestep = _strong(self.env.restart(state.inner, key))
        return AutoResetState(inner, timestep.is_last), timestep

    def step(
        self, state: AutoResetState[State], action: Shaped[Array, "..."], key: Key
    ) -> tuple[AutoResetState[State], TimeStep]:
        """One step of the stream: a step of the present episode, or the start of the next one."""
        k_step, k_restart = jr.split(key)
        # Both branches run: under vmap a cond is a select anyway, and this form is the same without a batch.
        stepped = self.env.step(state.inner, action, k_step)
        restarted = self.env.restart(state.inner, k_restart)
        inner, timestep = _select(state.is_last, restarted, stepped)
        # The picture of the chosen state is the chosen picture.  Taken here, it leaves those of both branches unused,
        # and the compiler drops them: one picture a step instead of two.
        picture = picture_of(self.env, inner)
        if picture is not None:
            timestep = replace(timestep, obs=_with_picture(timestep.obs, picture))
        return AutoResetState(inner, timestep.is_last), timestep

    def episode_metrics(self, state: AutoResetState[State]) -> EpisodeMetrics:
        """Metrics of the episode of the last time step; complete when it is the final one."""
        return ReadableMetrics(self.env.episode_metrics(state.inner))

    def inner(self, state: AutoResetState[State]) -> State:
        """State of the wrapped environment."""
        return state.inner


def _with_picture(obs: Obs, picture: Array) -> Obs:
    return MixedObs(picture, obs.vector) if isinstance(obs, MixedObs) else picture


class TimeLimitState(eqx.Module, Generic[State]):
    """State of the wrapped environment, and the steps taken in this episode."""

    inner: State
    elapsed: Int[Array, ""]


class TimeLimit(AbstractWrapper[TimeLimitState[State]], Generic[State]):
    """Truncates an episode at its ``steps``-th step: ``is_last`` without ``is_terminal``.

    A terminal step that falls on the limit stays terminal.
    """

    env: AbstractEnv[State]
    steps: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(
                f"TimeLimit.steps is {self.steps}; it must be at least 1: give a positive number."
            )

    @property
    def spec(self) -> EnvSpec:
        """That of the wrapped environment."""
        return self.env.spec

    def reset(self, key: Key) -> tuple[TimeLimitState[State], TimeStep]:
        """First episode, with the count at zero."""
        inner, timestep = _strong(self.env.reset(key))
        return TimeLimitState(inner, jnp.zeros((), jnp.int32)), timestep

    def restart(self, state: TimeLimitState[State], key: Key) -> tuple[TimeLimitState[State], TimeStep]:
        """Next episode, with the count at zero."""
        inner, timestep = _strong(self.env.restart(state.inner, key))
        return TimeLimitState(inner, jnp.zeros((), jnp.int32)), timestep

    def step(
        self, state: TimeLimitState[State], action: Shaped[Array, "..."], key: Key
    ) -> tuple[TimeLimitState[State], TimeStep]:
        """One step of the wrapped environment, the last one if the limit is reached."""
        inner, timestep = _strong(self.env.step(state.inner, action, key))
        elapsed = state.elapsed + 1
        is_last = timestep.is_last | (elapsed >= self.steps)
        return TimeLimitState(inner, elapsed), replace(timestep, is_last=is_last)

    def episode_metrics(self, state: TimeLimitState[State]) -> EpisodeMetrics:
        """Those of the wrapped environment."""
        return self.env.episode_metrics(state.inner)

    def inner(self, state: TimeLimitState[State]) -> State:
        """State of the wrapped environment."""
        return state.inner


def _strong(tree: Tree) -> Tree:
    """Drops weak types, which would cost a second compile when they change between reset and step."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), tree)


def _select(condition: Bool[Array, ""], on_true: Tree, on_false: Tree) -> Tree:
    """``on_true`` or ``on_false``, leaf by leaf, both of one structure, shape and dtype."""

    def select(path: tuple[object, ...], a: Array, b: Array) -> Array:
        if a.shape != b.shape or a.dtype != b.dtype:
            raise TypeError(
                f"restart and step of an environment disagree on leaf {jax.tree_util.keystr(path)}: "
                f"{a.dtype}{a.shape} against {b.dtype}{b.shape}. Give both the same shape and dtype."
            )
        return jnp.where(condition, a, b)

    return jax.tree_util.tree_map_with_path(select, _strong(on_true), _strong(on_false))
