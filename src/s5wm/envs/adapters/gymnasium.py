"""Gymnasium environments as ``HostEnv``: sequential in this process, or each in a process of its own.

An environment that raises, whose process dies, or that does not answer in time is made anew.  Its episode is truncated
at its latest time step, and the next step starts another episode.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from s5wm.envs.adapters.budget import FailureBudget, reason
from s5wm.envs.adapters.instance import Make, close
from s5wm.envs.adapters.layout import Field, Layout
from s5wm.envs.adapters.observations import Observations, Values, batched, read_observations
from s5wm.envs.adapters.pools import AbstractPool, Failures, LocalPool, ProcessPool
from s5wm.envs.adapters.spaces import read_actions
from s5wm.envs.host import AbstractHostEnvs, HostEnv, HostTimeStep
from s5wm.errors import ConfigError
from s5wm.types import EnvSpec, MixedObs

NAMES = "obs_names"
"""Key of an environment's ``metadata``: a name for each number of its observation."""


@dataclass(frozen=True, kw_only=True)
class Hosting:
    """How environments are run, and what of a ``Dict`` observation is hidden from the policy."""

    processes: bool = False
    timeout: float = 60.0  # s, of a step or a reset in a process
    # So many within ``failure_minutes``, or of one environment in a row, are borne; one more ends the training.
    failures: int = 10
    failure_minutes: float = 10.0
    overlap: bool = False
    privileged: tuple[str, ...] = ()


def host_env(make: Make, hosting: Hosting = Hosting()) -> HostEnv:
    """The environment that ``make`` gives; one is made, looked at and closed.

    Raises ``ConfigError`` where agents cannot read its observations or choose its actions.
    """
    env = make()
    try:
        observations = read_observations(env.observation_space, hosting.privileged)
        action, give = read_actions(env.action_space)
        spec = spec_of(env, observations, action)
    finally:
        close(env)
    example = np.asarray(give(np.asarray(action.blank())[None]))
    layout = Layout(
        {
            name: Field(part.shape, "u1" if name == "image" else "f4")
            for name, part in observations.parts.items()
        },
        Field(example.shape[1:], example.dtype.str),
    )

    def open_envs(num: int) -> GymnasiumEnvs:
        given = (make, layout, num, hosting.privileged)
        pool = ProcessPool(*given, hosting.timeout) if hosting.processes else LocalPool(*given)
        return GymnasiumEnvs(pool, num, give, FailureBudget(hosting.failures, hosting.failure_minutes))

    return HostEnv(
        described=spec,
        open=open_envs,
        encode=lambda obs, count: seen(observations, obs, count),
        give=give,
        overlap=hosting.overlap,
    )


def spec_of(env: Any, observations: Observations, action: Any) -> EnvSpec:
    """The spec that agents are built for; raises ``ConfigError`` for names that do not fit its observation."""
    image, vector, hidden = observations.image, observations.vector, observations.privileged
    main = image or vector
    assert main is not None, "an observation has parts"
    try:
        return EnvSpec(
            main.shape,
            np.dtype(np.uint8 if image else np.float32),
            action,
            ctrl_dt=_period(env),
            privileged_size=0 if hidden is None else hidden.shape[0],
            vector_size=vector.shape[0] if image and vector else 0,
            # A wrapper that shows pictures has the metadata of what is inside it.
            obs_names=tuple(map(str, _metadata(env).get(NAMES, ()))) if vector else (),
        )
    except ValueError as error:
        raise ConfigError(f"its metadata: {error}") from error


def seen(observations: Observations, obs: Any, count: int | None) -> Any:
    """Encode an observation of a user (``count`` None), or ``count`` of them, for the policy."""
    together = batched(obs) if count is None else obs
    parts = {name: part.read(together) for name, part in observations.parts.items() if name != "privileged"}
    if count is None:
        parts = {name: values[0] for name, values in parts.items()}
    return _joined(parts)


def _joined(parts: dict[str, Values]) -> Any:
    if "image" in parts and "vector" in parts:
        return MixedObs(parts["image"], parts["vector"])
    return parts["image"] if "image" in parts else parts["vector"]


def _metadata(env: Any) -> Mapping[str, Any]:
    return getattr(env, "metadata", None) or {}


def _period(env: Any) -> float:
    """Seconds between two actions, where the environment defines them; else 1."""
    fps = _metadata(env).get("render_fps")
    own = getattr(getattr(env, "unwrapped", env), "dt", None)
    if isinstance(own, int | float) and own > 0:
        return float(own)
    return 1.0 / fps if isinstance(fps, int | float) and fps > 0 else 1.0


def time_limit(env: Any) -> int | None:
    """Steps after which its episodes are truncated; None if unknown."""
    limit = getattr(getattr(env, "spec", None), "max_episode_steps", None)
    return int(limit) if limit else None


class GymnasiumEnvs(AbstractHostEnvs):
    """``num`` environments of a pool; those that fail are made anew."""

    def __init__(
        self, pool: AbstractPool, num: int, give: Callable[[Values], Any], budget: FailureBudget
    ) -> None:
        self._pool, self._num, self._give, self._budget = pool, num, give, budget
        self._seed, self._restarts = 0, 0
        self._is_started = False

    def reset(self, seed: int) -> HostTimeStep:
        """Start a new episode everywhere."""
        self._seed = seed
        everyone = range(self._num)
        with self._budget.call():
            failures = {} if self._is_started else self._pool.start(everyone)
            self._is_started = True
            seeds = {number: seed + number for number in everyone if number not in failures}
            failures |= self._pool.reset(seeds)
            self._renew(dict(self._not_finite()) | failures)
        return self._rows({}, np.zeros(self._num, bool))

    def step(self, action: Values) -> HostTimeStep:
        """Step each environment."""
        rows = self._pool.rows
        ended = rows["is_last"].copy()
        rows["action"][...] = self._give(action)
        with self._budget.call():
            failures = self._pool.step()
            failures = dict(self._not_finite()) | failures
            metrics = dict(self._pool.metrics)
            failed = np.zeros(self._num, bool)
            failed[list(failures)] = True
            self._budget.stepped(np.flatnonzero(~failed & ~ended).tolist())
            self._renew(failures)
        return self._rows(metrics, failed & ~ended)

    def close(self) -> None:
        """Close the environments and their processes."""
        self._pool.close()

    def render(self) -> Any:
        """The picture of the first environment, where it renders."""
        return self._pool.render()

    def _not_finite(self) -> Iterator[tuple[int, str]]:
        """Environments whose observation or reward is not finite: nothing can be learned from them."""
        for name, values in self._pool.rows.items():
            if values.dtype.kind == "f" and name != "action":
                finite = np.isfinite(values).reshape(self._num, -1).all(axis=1)
                what = "reward" if name == "reward" else "observation"
                yield from ((int(number), f"its {what} was not finite") for number in np.flatnonzero(~finite))

    def _renew(self, failures: Failures) -> None:
        """Make those that failed anew, until all are at the start of an episode."""
        while failures:
            for number, why in failures.items():
                self._budget.spend(number, why)
                self.tell(f"environment {number} failed ({reason(why)}); it is made anew")
            again = self._pool.start(list(failures))
            seeds: dict[int, int] = {}
            for number in failures.keys() - again.keys():
                self._restarts += 1
                entropy = np.random.SeedSequence([self._seed, number, self._restarts])
                seeds[number] = int(entropy.generate_state(1)[0] >> 1)
            failures = again | self._pool.reset(seeds)
            failures = dict(self._not_finite()) | failures

    def _rows(self, metrics: dict[int, dict[str, float]], cut: Values) -> HostTimeStep:
        rows = {name: values.copy() for name, values in self._pool.rows.items()}
        names = dict.fromkeys(name for episode in metrics.values() for name in episode)
        return HostTimeStep(
            obs=_joined(rows),
            privileged=rows.get("privileged"),
            reward=rows["reward"].astype(np.float32),
            is_first=rows["is_first"],
            is_last=rows["is_last"],
            is_terminal=rows["is_terminal"],
            cut=cut,
            metrics={
                name: np.array([metrics.get(i, {}).get(name, np.nan) for i in range(self._num)])
                for name in names
            },
        )
