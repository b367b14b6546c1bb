"""Gymnasium environments as ``HostEnv``: copies side by side in this process, or each in a process of its own."""

import functools as ft
import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from s5wm.envs.adapters.spaces import Observations, Values, read_actions, read_observations
from s5wm.envs.host import AbstractHostEnvs, HostEnv, HostRows
from s5wm.errors import ConfigError
from s5wm.types import EnvSpec

SUCCESS = ("is_success", "success")
"""Keys of ``info`` at the end of an episode by which environments tell whether it was solved."""

Make = Callable[[], Any]
"""Makes one Gymnasium environment; it can be pickled."""


def host_env(make: Make, *, processes: bool = False) -> HostEnv:
    """The environment that ``make`` gives; one is made, looked at and closed.

    Raises ``ConfigError`` where agents cannot read its observations or choose its actions.
    """
    env = make()
    try:
        observations = read_observations(env.observation_space)
        action, give = read_actions(env.action_space)
        seconds = _period(env)
    finally:
        env.close()
    spec = EnvSpec(observations.shape, observations.dtype, action, ctrl_dt=seconds)
    return HostEnv(
        described=spec,
        open=ft.partial(GymnasiumEnvs, make, processes=processes),
        encode=observations.encode,
        give=give,
    )


def _period(env: Any) -> float:
    """Seconds between two actions, as far as the environment tells; else 1."""
    fps = (getattr(env, "metadata", None) or {}).get("render_fps")
    own = getattr(getattr(env, "unwrapped", env), "dt", None)
    if isinstance(own, int | float) and own > 0:
        return float(own)
    return 1.0 / fps if isinstance(fps, int | float) and fps > 0 else 1.0


def time_limit(env: Any) -> int | None:
    """Steps after which its episodes are truncated, where it tells."""
    limit = getattr(getattr(env, "spec", None), "max_episode_steps", None)
    return int(limit) if limit else None


@dataclass(frozen=True)
class _Reading:
    observations: Observations
    encode_action: Callable[[Values], Any]


def _in_worker(make: Make) -> Any:
    """The environment, in a process that leaves signals to stop to the training: that one ends its workers."""
    if multiprocessing.parent_process() is not None:  # the training itself makes one too, to look at it
        for number in (signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
    return make()


class GymnasiumEnvs(AbstractHostEnvs):
    """``num_envs`` copies, stepped one after the other, or each in a process of its own (``processes``)."""

    def __init__(self, make: Make, num_envs: int, *, processes: bool = False) -> None:
        from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

        makes: Sequence[Make] = [ft.partial(_in_worker, make) if processes else make] * num_envs
        mode = AutoresetMode.NEXT_STEP
        self._envs: Any = (
            AsyncVectorEnv(makes, context="spawn", autoreset_mode=mode)
            if processes
            else SyncVectorEnv(makes, autoreset_mode=mode)
        )
        self._num = num_envs
        observations = read_observations(self._envs.single_observation_space)
        self._reading = _Reading(observations, read_actions(self._envs.single_action_space)[1])
        self._ended = np.zeros(num_envs, bool)
        self._is_broken = False

    def reset(self, seed: int) -> HostRows:
        """New episodes of all copies."""
        obs, _ = self._envs.reset(seed=seed)
        none = np.zeros(self._num, bool)
        self._ended = none
        return HostRows(
            obs=self._read(obs),
            reward=np.zeros(self._num, np.float32),
            is_first=~none,
            is_last=none,
            is_terminal=none,
            metrics={},
        )

    def step(self, action: Values) -> HostRows:
        """One row of each copy."""
        try:
            obs, reward, terminated, truncated, info = self._envs.step(self._reading.encode_action(action))
        except BaseException:
            self._is_broken = True
            raise
        is_first = self._ended
        self._ended = np.asarray(terminated | truncated, bool)
        return HostRows(
            obs=self._read(obs),
            reward=np.asarray(reward, np.float32),
            is_first=is_first,
            is_last=self._ended,
            is_terminal=np.asarray(terminated, bool),
            metrics=_successes(info, self._ended),
        )

    def close(self) -> None:
        """End the copies and their processes."""
        processes = getattr(self._envs, "processes", ())
        if not (self._is_broken or any(not process.is_alive() for process in processes)):
            self._envs.close()
            return
        for process in processes:  # a worker that died would be waited for without end
            process.terminate()
        with suppress(Exception):  # its pipes may be broken too; what matters is that no process is left
            self._envs.close(**({"terminate": True} if processes else {}))

    def render(self) -> Any:
        """The picture of the first copy, where it renders."""
        pictures = self._envs.render()
        return pictures[0] if pictures else None

    def _read(self, obs: Any) -> Values:
        read = self._reading.observations
        values = read.batch(obs)
        if values.shape != (self._num, *read.shape):
            raise ConfigError(
                f"an observation has shape {values.shape[1:]}, its space {read.shape}: correct the environment "
                "(s5wm check-env finds such)"
            )
        return np.array(values, read.dtype)  # a vector environment may write into its own again


def _successes(info: Mapping[str, Any], ended: Values) -> dict[str, Values]:
    """``success`` of the episodes that end here, where their ``info`` tells."""
    for name in SUCCESS:
        if name in info and ended.any():
            known = np.asarray(info.get(f"_{name}", np.ones(len(ended), bool)), bool) & ended
            values = np.array([float(v) if k else np.nan for v, k in zip(info[name], known, strict=True)])
            return {"success": values}
    return {}
