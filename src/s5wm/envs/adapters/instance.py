"""One Gymnasium environment as an endless stream of time steps, written into arrays of the caller."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from s5wm.envs.adapters.observations import Observations, Values, batched, read_observations
from s5wm.errors import ConfigError

SUCCESS = ("is_success", "success")
"""Keys of ``info`` at the end of an episode that environments use for success."""

METRICS = "metrics"
"""Key of ``info`` at the end of an episode: a dictionary of named numbers that describe it."""

Make = Callable[[], Any]
"""Makes one Gymnasium environment; it can be pickled."""

Metrics = dict[str, float]


class Instance:
    """An environment that resets at the step after its last one, which ignores its action.

    ``row`` maps each array of a ``Layout`` to this environment's entry.
    """

    def __init__(self, make: Make, row: Mapping[str, Values], privileged: tuple[str, ...]) -> None:
        self._env = make()
        self._row = row
        self._observations: Observations = read_observations(self._env.observation_space, privileged)
        self._is_over = False

    def reset(self, seed: int | None = None) -> Metrics:
        """The first step of a new episode."""
        obs, _ = self._env.reset(seed=seed)
        self._is_over = False
        self._write(obs, 0.0, is_first=True, is_terminal=False, is_last=False)
        return {}

    def step(self) -> Metrics:
        """Step by the action in the row; returns the metrics of an episode that ends with it."""
        if self._is_over:
            return self.reset()
        action = self._row["action"]
        given = action.copy() if action.ndim else action[()]
        obs, reward, terminated, truncated, info = self._env.step(given)
        self._is_over = bool(terminated or truncated)
        self._write(obs, float(reward), is_first=False, is_terminal=bool(terminated), is_last=self._is_over)
        return episode_metrics(info) if self._is_over else {}

    def render(self) -> Any:
        """A picture, where it renders; raises ``ConfigError`` where a package that draws it is not installed."""
        from gymnasium.error import DependencyNotInstalled

        try:
            return self._env.render()
        except (DependencyNotInstalled, ImportError) as error:
            raise ConfigError(f"this environment cannot draw itself: {error}") from error

    def close(self) -> None:
        """Close it."""
        close(self._env)

    def _write(self, obs: Any, reward: float, *, is_first: bool, is_terminal: bool, is_last: bool) -> None:
        together = batched(obs)
        for name, part in self._observations.parts.items():
            values = part.read(together)
            self._row[name][...] = values[0]
        flags = {"is_first": is_first, "is_terminal": is_terminal, "is_last": is_last}
        for name, value in {"reward": reward, **flags}.items():
            self._row[name][...] = value


def close(env: Any) -> None:
    """Close an environment, where it can be closed."""
    with suppress(Exception):  # whatever is wrong with it, it is not used again
        getattr(env, "close", lambda: None)()


def episode_metrics(info: Mapping[str, Any]) -> Metrics:
    """Success and other metrics of an episode."""
    named = info.get(METRICS)
    found = {str(name): float(value) for name, value in named.items()} if isinstance(named, Mapping) else {}
    for name in SUCCESS:
        if name in info:
            return found | {"success": float(np.asarray(info[name]))}
    return found
