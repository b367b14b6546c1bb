"""Gymnasium adapter of one environment (optional dependency); ``s5wm.experiments.gym_ids`` has the ids of our tasks.

Environment ``i`` of ``GymVectorEnv.reset(seed=s)`` is exactly ``GymEnv.reset(seed=s + i)``.  A reset with
a seed creates the environment anew; a reset without one starts the next episode.

``info`` has what the episode has come to: of a race ``gates``, ``laps``, ``lap_times`` (s, the last 16, 0 where there
is none), ``lap_time_last``, ``top_speed``, ``seconds``, ``crash``, ``from_start``, and ``ending``, first ``FLYING``.
"""

from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import jax
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from s5wm.envs.base import AbstractEnv
from s5wm.envs.batched import BatchedEnv, Row, info_of, rewards_of, take_env
from s5wm.envs.forks import check_fork
from s5wm.envs.gymnasium.spaces import (
    Observed,
    action_space,
    drawn_seed,
    observation_space,
    observed,
    title_of,
)
from s5wm.envs.gymnasium.vector import GymVectorEnv
from s5wm.envs.screen import RENDER_MODES, Screen, check_render_mode, render_modes
from s5wm.envs.task import AbstractTask

Values = NDArray[Any]
Info = dict[str, Any]

ALL = np.ones(1, np.bool_)


@runtime_checkable
class EnvConfig(Protocol):
    """Any environment's configuration; of a task (``AbstractTask``) it is the environment of training that is made."""

    def build(self) -> AbstractEnv[Any]:
        """The environment it describes."""
        ...


class GymEnv(gym.Env[Observed, Values]):
    """One environment; reward is ``nominal + smoothing``.  An observation is an array, or ``image`` and ``vector``.

    An environment given by its configuration is built at the first reset, so that a process that only made it may still
    be forked: ``AsyncVectorEnv`` makes one to ask for its spaces.  Raises ``RuntimeError`` where JAX would hang.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 50}

    def __init__(self, env: AbstractEnv[Any] | EnvConfig, render_mode: str | None = None) -> None:
        shown = _described(env)
        modes = render_modes(shown)
        check_render_mode(render_mode, modes)
        self.render_mode = render_mode
        self.metadata = {"render_modes": modes, "render_fps": round(1.0 / shown.spec.ctrl_dt)}
        self._given = env
        self._screen: Screen | None = None
        self.observation_space = observation_space(shown.spec)
        self.action_space = action_space(shown.spec)

    @cached_property
    def _env(self) -> AbstractEnv[Any]:
        check_fork()
        return _built(self._given) if isinstance(self._given, EnvConfig) else self._given

    @cached_property
    def _batch(self) -> BatchedEnv:
        return BatchedEnv(self._env, 1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, Info]:
        """Create anew from ``seed``, or start the next episode; no options exist."""
        super().reset(seed=seed)
        del options
        if seed is not None or not self._batch.is_created:
            self._batch.create([drawn_seed(self.np_random) if seed is None else int(seed)], ALL)
        else:
            self._batch.begin(ALL)
        row = self._seen(is_first=True)
        return observed(row.timestep.obs, 0), info_of(row, 0)

    def step(self, action: Values) -> tuple[Observed, float, bool, bool, Info]:
        """One control period; call ``reset`` after ``terminated`` or ``truncated``."""
        if not self._batch.is_created:
            raise gym.error.ResetNeeded("The environment has no state yet: call reset() before step().")
        advanced = self._batch.advance(action)
        timestep = advanced.timestep
        terminated, truncated = bool(timestep.is_terminal[0]), bool(timestep.is_last[0])
        reward = float(rewards_of(advanced)[0])
        row = self._seen(is_first=bool(timestep.is_first[0]))
        return (
            observed(timestep.obs, 0),
            reward,
            terminated,
            truncated and not terminated,
            info_of(row, 0),
        )

    def render(self) -> Values | None:
        """With ``rgb_array`` the picture of the present state; ``human`` has shown it already."""
        if self._screen is None:
            if self.render_mode is None:
                gym.logger.warn("render() draws nothing: make the environment with render_mode='rgb_array'.")
                return None
            raise gym.error.ResetNeeded("There is nothing to draw yet: call reset() before render().")
        return self._screen.frame() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._screen is not None:
            self._screen.close()
            self._screen = None

    def _seen(self, *, is_first: bool) -> Row:
        row = self._batch.row
        assert row is not None
        if self.render_mode is not None:
            if self._screen is None:
                self._screen = Screen(self._env, self.render_mode, title_of(self))
            self._screen.see(take_env(row.drone, 0), is_first=is_first)
        return row


def _described(env: AbstractEnv[Any] | EnvConfig) -> AbstractEnv[Any]:
    """The environment, or one with shapes in place of its arrays, for which no device wakes."""
    if not isinstance(env, EnvConfig):
        return env
    try:
        return jax.eval_shape(lambda: _built(env))
    except jax.errors.TracerArrayConversionError:
        check_fork()  # it asks for numbers while it is built, as a scene for a camera does
        return _built(env)


def _built(config: EnvConfig) -> AbstractEnv[Any]:
    """The environment of training of a task; an ``eval_config()`` has the same as that by which it is judged."""
    return config.training_env() if isinstance(config, AbstractTask) else config.build()


def make_single(config: EnvConfig, render_mode: str | None = None) -> GymEnv:
    """The environment that a configuration describes."""
    return GymEnv(config, render_mode)


def make_vector(
    config: EnvConfig,
    num_envs: int = 1,
    *,
    autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
) -> GymVectorEnv:
    """A batch of the environment that a configuration describes."""
    return GymVectorEnv(_built(config), num_envs, autoreset_mode=autoreset_mode, render_mode=render_mode)
