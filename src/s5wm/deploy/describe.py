"""The flight card of a trained policy, and a flight of it in its own task to compare exported files with."""

import datetime
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from s5wm.actions import ActionSpec, Box
from s5wm.agents.base import AbstractPolicy
from s5wm.deploy.card import (
    VERSION,
    Entry,
    FlightCard,
    MemorySlot,
    ObservationCard,
    Origin,
    TrackCard,
    VehicleCard,
)
from s5wm.deploy.golden import Golden
from s5wm.deploy.graph import Graph
from s5wm.deploy.inputs import Inputs
from s5wm.deploy.runtime.guard import SLEW_MIN
from s5wm.deploy.runtime.hover import hover_action
from s5wm.deploy.runtime.observation import ENTRIES, IMAGE_AND_IMU
from s5wm.envs.base import AbstractDroneEnv, Deployment, innermost
from s5wm.envs.host import HostEnv, Shown, shown_by, timestep_from
from s5wm.envs.quadrotor.params import QuadParams
from s5wm.experiments.trained import TrainedAgent, find
from s5wm.runs.directory import lives
from s5wm.types import EnvSpec

SLEW_MARGIN = 1.25
"""Margin on the largest change of an action in the recorded flights."""


def _trained_at(run: str | Path) -> str | None:
    """Commits with which the training began and went on, ``A, B``; None if none is recorded, as of shipped policies."""
    commits = dict.fromkeys(life["commit"] for life in lives(find(run)) if life.get("commit"))
    return ", ".join(commits) or None


def card_of(agent: TrainedAgent, run: str | Path, graph: Graph, golden: Golden) -> FlightCard:
    """The card of an agent whose network is ``graph``."""
    env, name = agent.experiment.task.build(), agent.experiment.name
    origin = Origin(
        run=str(run),
        task=name.task,
        agent=name.agent,
        commit=_trained_at(run),
        env_steps=agent.env_steps,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    env = innermost(env)
    known = env.deployment() if isinstance(env, AbstractDroneEnv) else Deployment()
    vehicle = None if known.vehicle is None else vehicle_card(known.vehicle)
    return FlightCard(
        version=VERSION,
        origin=origin,
        control_period=agent.spec.ctrl_dt,
        observation=_observation(known, agent.spec),
        actions=agent.spec.action_size,
        action_slew=_slew(golden, agent.spec.action, vehicle),
        choices=() if isinstance(agent.spec.action, Box) else agent.spec.action.groups,
        action_low=_bounds(agent.spec.action)[0],
        action_high=_bounds(agent.spec.action)[1],
        memory=tuple(MemorySlot(name=s.name, start=s.start, size=s.size) for s in graph.slots),
        vehicle=vehicle,
        track=None if known.track is None else track_card(known.track),
    )


def _observation(known: Deployment, spec: EnvSpec) -> ObservationCard:
    # A wrapper may show pictures of a drone whose own observation is another one.
    layout: Any = known.layout if not spec.has_images or known.layout == IMAGE_AND_IMU else "image"
    named = tuple(Entry(name=name, size=1, unit="1", scale=1.0, frame="none") for name in spec.obs_names)
    return ObservationCard(
        layout=layout,
        shape=spec.obs_shape,
        dtype="uint8" if spec.has_images else "float32",
        entries=ENTRIES.get(layout, named),
        vector_size=spec.vector_size,
    )


def _bounds(spec: ActionSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of each number that is given out; those of a one-hot are 0 and 1."""
    low, high = spec.bounds if isinstance(spec, Box) else (0.0, 1.0)
    return _numbers(np.broadcast_to(low, (spec.width,))), _numbers(np.broadcast_to(high, (spec.width,)))


def _slew(golden: Golden, spec: ActionSpec, vehicle: VehicleCard | None) -> tuple[float, ...]:
    """The largest change of each action from one step to the next, with a margin, and never nearly none.

    A quadrotor hovers before its policy flies, so the step from there to the first action of a flight counts.
    """
    low, high = (np.array(bound) for bound in _bounds(spec))
    changes = np.abs(np.diff(golden.action, axis=0))[~golden.is_first[1:]]
    if vehicle is not None:
        begun = np.abs(golden.action[golden.is_first] - hover_action(vehicle))
        changes = np.concatenate([changes, begun])
    largest = SLEW_MARGIN * changes.max(axis=0) if len(changes) else high - low
    least = 0.5 * SLEW_MIN * (high - low)
    return tuple(float(value) for value in np.clip(largest, least, high - low))


def _numbers(array: Any) -> Any:
    """An array as nested tuples of Python numbers."""
    return _as_tuple(np.asarray(array).tolist())


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(each) for each in value) if isinstance(value, list) else value


def vehicle_card(params: QuadParams) -> VehicleCard:
    """The quadrotor of an environment."""
    names = VehicleCard.__dataclass_fields__
    return VehicleCard(**{name: _numbers(getattr(params, name)) for name in names})


def track_card(track: Mapping[str, Any]) -> TrackCard:
    """The gates of a task."""
    return TrackCard(**{name: _numbers(track[name]) for name in TrackCard.__dataclass_fields__})


def as_exported(spec: ActionSpec, vector: Any) -> Any:
    """Output of exported files for an action vector ``[A]``: numbers in the task's bounds; one-hots unchanged."""
    return spec.decode(vector).reshape(vector.shape) if isinstance(spec, Box) else vector


def fly_golden(agent: TrainedAgent, steps: int, *, seed: int = 0) -> Golden:
    """Consecutive steps of the policy's mode in the evaluation form of its task."""
    env = replace(agent.experiment, task=agent.experiment.task.eval_config()).build_env()
    if isinstance(env, HostEnv):
        return _golden_on_host(env, agent.policy, steps, seed)
    policy = agent.policy

    def advance(carry: Any, key: Any) -> tuple[Any, Any]:
        state, timestep, memory = carry
        after, action, _ = policy(memory, timestep.obs, timestep.is_first, key=None)
        row = (inputs_of(timestep.obs), timestep.is_first, as_exported(env.spec.action, action))
        state, following = env.step(state, env.spec.action.decode(action), key)
        return (state, following, after), row

    @jax.jit
    def fly(key: Any) -> Any:
        k_reset, k_steps = jr.split(key)
        state, timestep = env.reset(k_reset)
        start = (state, timestep, policy.initial())
        return jax.lax.scan(advance, start, jr.split(k_steps, steps))[1]

    return Golden(*jax.device_get(fly(jr.key(seed))))


def _golden_on_host(env: HostEnv, policy: AbstractPolicy[Any, Any], steps: int, seed: int) -> Golden:
    """The same in an environment that the host steps."""

    @jax.jit
    def act(memory: Any, shown: Shown) -> tuple[Any, Any, Any]:
        now = jax.tree.map(lambda x: x[0], timestep_from(shown))
        memory, action, _ = policy(memory, now.obs, now.is_first, key=None)
        return memory, as_exported(env.spec.action, action), env.spec.action.decode(action)

    rows: list[Any] = []
    memory, envs = policy.initial(), env.open(1)
    try:
        latest = envs.reset(seed)
        for _ in range(steps):
            memory, written, given = act(memory, shown_by(latest))
            now = tuple(array[0] for array in inputs_of(latest.obs))
            rows.append((now, latest.is_first[0], np.asarray(written)))
            latest = envs.step(np.asarray(given)[None])
    finally:
        envs.close()
    return Golden(*jax.tree.map(lambda *steps: np.stack(steps), *rows))


def inputs_of(obs: Any) -> Any:
    """An observation as the inputs of an export: a tuple of one array, or of an image and a vector."""
    return tuple(jax.tree.leaves(obs))


def act_along(agent: TrainedAgent, inputs: Inputs, is_first: Any) -> Any:
    """Actions of the JAX policy for a sequence of inputs ``[T, ...]``, with memory."""
    obs = jax.tree.unflatten(jax.tree.structure(agent.spec.zero_obs()), inputs)

    @jax.jit
    def fold(obs: Any, is_first: Any) -> Any:
        def advance(memory: Any, row: Any) -> tuple[Any, Any]:
            after, action, _ = agent.policy(memory, row[0], row[1], key=None)
            return after, as_exported(agent.spec.action, action)

        return jax.lax.scan(advance, agent.policy.initial(), (obs, is_first))[1]

    return np.asarray(fold(jax.tree.map(jnp.asarray, obs), jnp.asarray(is_first)))
