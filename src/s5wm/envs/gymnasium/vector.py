"""Gymnasium adapter of many environments in one compiled step; it behaves as Gymnasium's own vector environments do."""

from collections.abc import Sequence
from typing import Any, SupportsIndex

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from s5wm.envs.base import AbstractEnv
from s5wm.envs.batched import BatchedEnv, Row, metrics_of, rewards_of, take_env
from s5wm.envs.gymnasium.spaces import (
    Observed,
    action_space,
    drawn_seed,
    observation_space,
    observed,
    title_of,
)
from s5wm.envs.screen import Screen, check_render_mode, render_modes

Values = NDArray[Any]
Mask = NDArray[np.bool_]
Infos = dict[str, Any]


class GymVectorEnv(VectorEnv[Observed, Values, Values]):
    """``num_envs`` environments in one compiled step.

    Observations are arrays ``[N, ...]``, or a dictionary of ``image`` and ``vector`` where they hold both.

    ``autoreset_mode``: with ``NEXT_STEP`` the final observation of an episode has a step of its own, and the step after
    it ignores its action and returns the first observation of the next episode with zero reward.  With ``SAME_STEP``
    that first observation takes the place of the final one, which is in ``info["final_obs"]``.  With ``DISABLED`` the
    caller resets with ``options={"reset_mask": ...}``.
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"],
        "render_fps": 50,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        env: AbstractEnv[Any],
        num_envs: int,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; a vector environment needs at least 1.")
        modes = [mode for mode in render_modes(env) if mode != "human"]  # a window for each would be too many
        check_render_mode(render_mode, modes)
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {
            "render_modes": modes,
            "render_fps": round(1.0 / env.spec.ctrl_dt),
            "autoreset_mode": self.autoreset_mode,
        }
        self._env = env
        self._screens: list[Screen] = []
        self._batch = BatchedEnv(env, num_envs)
        self._ended = np.zeros(num_envs, np.bool_)
        self.num_envs = num_envs
        self.single_observation_space = observation_space(env.spec)
        self.single_action_space = action_space(env.spec)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observed, Infos]:
        """Create environments anew from their seeds; without a seed start their next episode.

        ``seed``: one ``s`` stands for ``s, s + 1, ...``; a list has one, or None, for each environment.  With
        ``options["reset_mask"]``, booleans ``[N]``, only those environments are reset; ``info`` is theirs.
        """
        mask = self._reset_mask(options)
        seeds = self._seeds(seed)
        if not self._batch.is_created and not mask.all():
            raise gym.error.ResetNeeded("There are no environments yet: reset all of them before some.")
        fresh: Mask = mask & np.array([each is not None for each in seeds])
        if not self._batch.is_created:
            fresh = mask
        if fresh.any():
            drawn = [drawn_seed(self.np_random) if each is None else each for each in seeds]
            self._batch.create(drawn, fresh)
        begun = mask & np.logical_not(fresh)
        if begun.any():
            self._batch.begin(begun)
        self._ended &= np.logical_not(mask)
        row = self._seen(mask)
        return observed(row.timestep.obs), _infos(row, mask)

    def step(self, actions: Values) -> tuple[Observed, Values, Values, Values, Infos]:
        """Step each environment."""
        if not self._batch.is_created:
            raise gym.error.ResetNeeded("The environment has no state yet: call reset() before step().")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._ended.any():
            raise gym.error.ResetNeeded(
                f"The episodes of environments {np.flatnonzero(self._ended).tolist()} have ended, and nothing resets "
                "them (autoreset_mode is DISABLED): call reset(options={'reset_mask': terminated | truncated})."
            )
        advanced = self._batch.advance(actions)
        timestep = advanced.timestep
        reward = np.asarray(rewards_of(advanced), np.float64)
        terminated, ended = np.array(timestep.is_terminal), np.array(timestep.is_last)
        infos: Infos = {}
        is_same_step = self.autoreset_mode == AutoresetMode.SAME_STEP
        if is_same_step and ended.any():
            infos = _final(self._batch.row, ended)
            self._batch.begin(ended)
        self._ended = np.zeros_like(ended) if is_same_step else ended
        row = self._seen(ended if is_same_step else np.array(timestep.is_first))
        infos |= _infos(row, np.ones(self.num_envs, np.bool_))
        return observed(row.timestep.obs), reward, terminated, ended & ~terminated, infos

    def render(self) -> tuple[Values, ...] | None:
        """A picture of each environment."""
        if self.render_mode is None:
            gym.logger.warn("render() draws nothing: make the environment with render_mode='rgb_array'.")
            return None
        if not self._screens:
            raise gym.error.ResetNeeded("There is nothing to draw yet: call reset() before render().")
        return tuple(screen.frame() for screen in self._screens)

    def _seen(self, begun: Mask) -> Row:
        row = self._batch.row
        assert row is not None
        if self.render_mode is not None:
            title = title_of(self)
            for _ in range(self.num_envs - len(self._screens)):
                self._screens.append(Screen(self._env, self.render_mode, title))
            for index, screen in enumerate(self._screens):
                screen.see(take_env(row.drone, index), is_first=bool(begun[index]))
        return row

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if isinstance(seed, SupportsIndex):
            seed = [int(seed) + index for index in range(self.num_envs)]
        listed: Sequence[int | None] = [None] * self.num_envs if seed is None else seed
        seeds = [None if each is None else int(each) for each in listed]
        if len(seeds) != self.num_envs:
            raise ValueError(
                f"seed is a list of {len(seeds)}; give one seed, or one for each of {self.num_envs} environments."
            )
        given = [each for each in seeds if each is not None]
        if given and min(given) < 0:
            raise gym.error.Error(f"seed is {min(given)}; seeds must be at least 0.")
        if given:
            super().reset(seed=given[0])  # for those that are drawn
        return seeds

    def _reset_mask(self, options: dict[str, Any] | None) -> Mask:
        """As Gymnasium has it, without taking it out of the caller's ``options``."""
        if options is None or "reset_mask" not in options:
            return np.ones(self.num_envs, np.bool_)
        mask, what = options["reset_mask"], "options['reset_mask']"
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            found = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
            raise TypeError(f"{what} is {found}; it must be a NumPy array of bool.")
        if mask.shape != (self.num_envs,):
            raise ValueError(f"{what} has shape {mask.shape}; it must be ({self.num_envs},).")
        if not mask.any():
            raise ValueError(f"{what} is False everywhere; at least one environment must be reset.")
        return mask.copy()


def _infos(row: Row, mask: Mask) -> Infos:
    """``info`` of the environments in ``mask``, each key with a mask of its own, as ``VectorEnv`` has them."""
    infos: Infos = {}
    for name, values in metrics_of(row).items():
        wide = {"f": np.dtype(np.float64), "i": np.dtype(np.int64)}  # as Python's numbers are
        kind = wide.get(values.dtype.kind, values.dtype) if values.ndim == 1 else values.dtype
        nothing = np.full(values.shape, 0 if kind.kind != "O" else None, kind)
        nothing[mask] = values[mask]
        infos |= {name: nothing, f"_{name}": mask.copy()}
    return infos


def _final(row: Row | None, ended: Mask) -> Infos:
    """The last observations and infos of episodes that the next ones have replaced."""
    assert row is not None
    final_obs = np.full(len(ended), None, object)
    for index in np.flatnonzero(ended):
        final_obs[index] = observed(row.timestep.obs, int(index))
    infos: Infos = {"final_obs": final_obs, "_final_obs": ended.copy()}
    return infos | {"final_info": _infos(row, ended), "_final_info": ended.copy()}
