"""One episode of a policy, step by step, in an environment of ours or one that the host steps.

Axis ``T``: time steps of the episode, the last one being the observation with which it ended.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, Shaped

from s5wm.agents.base import AbstractPolicy, tree_where
from s5wm.envs.base import AbstractEnv
from s5wm.envs.host import CUT, HostEnv, timestep_of
from s5wm.envs.task import AbstractDroneTask, AbstractTask, Episodes
from s5wm.types import MixedObs, OptionalMetric, TimeStep


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """A recorded episode, as NumPy arrays."""

    dt: float  # s between two time steps
    timestep: TimeStep  # [T]
    action: Float[np.ndarray, "T A"]  # the agent's vector
    snapshot: dict[str, np.ndarray]  # pose of a drone, [T, ...]; empty on other tasks
    metrics: dict[str, float]  # of the whole episode, by name
    outcome: dict[str, Any] | None  # of a flight: ``gates``, ``lap_times`` and ``ending``
    ending: str

    @property
    def rows(self) -> int:
        """``T``."""
        return len(self.action)

    @property
    def reward(self) -> Float[np.ndarray, " T"]:
        """Nominal, of the arrival at each time step."""
        return np.asarray(self.timestep.reward.nominal)

    @property
    def images(self) -> Shaped[np.ndarray, "T h w c"] | None:
        """What a camera saw, where observations have one."""
        obs = self.timestep.obs
        seen = np.asarray(obs.image if isinstance(obs, MixedObs) else obs)
        return seen if seen.ndim == 4 else None

    @property
    def numbers(self) -> Float[np.ndarray, "T O"] | None:
        """The numbers of the observations, where they have any."""
        obs = self.timestep.obs
        seen = np.asarray(obs.vector if isinstance(obs, MixedObs) else obs)
        return seen if seen.ndim == 2 else None


def run_episode(task: AbstractTask, policy: AbstractPolicy[Any, Any], seed: int) -> Episode:
    """One episode of the evaluation task with the policy's mode."""
    judged = task.eval_config().underlying
    env = judged.build()
    snapshot = judged.snapshot() if isinstance(judged, AbstractDroneTask) else None
    if isinstance(env, HostEnv):
        (rows, was_cut), final = _hosted(env, policy, seed, judged.max_steps), None
    else:
        rows, final = _compiled(env, policy, snapshot, seed, judged.max_steps)
        was_cut = False
    timestep, action, shown = rows
    ending = "terminated" if timestep.is_terminal[-1] else "time limit"
    return Episode(
        dt=float(env.spec.ctrl_dt),
        timestep=timestep,
        action=action,
        snapshot=shown,
        metrics={} if final is None else _metrics(env, final),
        outcome=_outcome(judged, timestep, final) if isinstance(judged, AbstractDroneTask) else None,
        ending=CUT if was_cut else ending,
    )


def _compiled(
    env: AbstractEnv[Any],
    policy: AbstractPolicy[Any, Any],
    snapshot: Callable[[Any], dict[str, Any]] | None,
    seed: int,
    max_steps: int,
) -> tuple[Any, Any]:
    """Time steps up to the first end, and the state there; one program for the whole episode."""
    k_reset, k_steps = jr.split(jr.key(seed))

    def row(carry: tuple[Any, TimeStep, Any], t: Any) -> tuple[tuple[Any, TimeStep, Any], Any]:
        state, now, memory = carry
        memory, action, _ = policy(memory, now.obs, now.is_first, key=None)
        shown = {} if snapshot is None else snapshot(state)
        following = env.step(state, env.spec.action.decode(action), jr.fold_in(k_steps, t))
        # The state of an ended episode stays, so that the last one of the scan is that of its end.
        state, after = tree_where(now.is_last | (t == max_steps), (state, now), following)
        return (state, after, memory), (now, action, shown)

    @jax.jit
    def episode() -> tuple[Any, Any]:
        state, now = env.reset(k_reset)
        (state, _, _), rows = jax.lax.scan(row, (state, now, policy.initial()), jnp.arange(max_steps + 1))
        return rows, state

    rows, final = jax.device_get(episode())
    ends = np.flatnonzero(rows[0].is_last)
    length = int(ends[0]) + 1 if ends.size else max_steps + 1
    return jax.tree.map(lambda x: x[:length], rows), final


def _hosted(env: HostEnv, policy: AbstractPolicy[Any, Any], seed: int, max_steps: int) -> tuple[Any, bool]:
    """Time steps up to the first end, stepped by the host, and whether the environment failed after them."""

    @jax.jit
    def act(memory: Any, now: TimeStep) -> tuple[Any, Any, Any]:
        memory, action, _ = policy(memory, now.obs, now.is_first, key=None)
        return memory, action, env.spec.action.decode(action)

    kept: list[Any] = []
    memory, was_cut = policy.initial(), False
    envs = env.open(1)
    try:
        rows = envs.reset(seed)
        for t in range(max_steps + 1):
            now = _first_of(timestep_of(rows))
            memory, action, given = act(memory, now)
            kept.append(jax.device_get((now, action, {})))
            if t == max_steps or bool(now.is_last):
                break
            rows = envs.step(np.asarray(given)[None])
            was_cut = bool(rows.cut[0])
            if was_cut:  # what follows is another episode
                break
    finally:
        envs.close()
    return jax.tree.map(lambda *each: np.stack(each), *kept), was_cut


def _outcome(task: AbstractDroneTask, timestep: TimeStep, final: Any) -> dict[str, Any]:
    """Outcome of the flight, by the task."""
    each = jax.tree.map(lambda x: jnp.asarray(x)[None], final)
    total = np.asarray(timestep.reward.nominal).sum(keepdims=True)
    one = Episodes(
        final=each,
        return_nominal=total,
        return_smoothing=None,
        steps=np.asarray([len(timestep.is_last) - 1], np.int32),
        is_terminal=np.asarray(timestep.is_terminal[-1:]),
        metrics={},
        recording=None,
    )
    return task.outcome(one, 0)


def _first_of(timestep: TimeStep) -> TimeStep:
    return jax.tree.map(lambda x: x[0], timestep)


def _metrics(env: AbstractEnv[Any], state: Any) -> dict[str, float]:
    """Metrics of the episode that it has."""
    found: dict[str, float] = {}
    for name, metric in env.episode_metrics(state).items():
        if isinstance(metric, OptionalMetric):
            if not bool(metric.exists):
                continue
            metric = metric.value
        found[name] = float(jnp.asarray(metric))
    return found
