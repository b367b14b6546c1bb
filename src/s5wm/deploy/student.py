"""A small network without memory that imitates a trained policy: for targets that keep no memory between steps.

Behaviour cloning with DAgger (Ross et al. 2011): the student flies, the policy says what it would have done in each
state that the student came to, and the student learns all that was said so far.
"""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from s5wm.actions import Box
from s5wm.agents.dreamer.policy import DreamerCarry
from s5wm.agents.optimiser import untyped
from s5wm.agents.ppo.actor import ReactiveActor, TanhMLP
from s5wm.agents.ppo.policy import PPOPolicy
from s5wm.deploy.card import ImitationCard, Outcome
from s5wm.envs.base import AbstractEnv
from s5wm.envs.host import HostEnv
from s5wm.errors import ConfigError, DivergedError
from s5wm.evaluation.protocol import evaluator
from s5wm.experiments.policies import FINAL_SEED
from s5wm.experiments.trained import TrainedAgent
from s5wm.ops.running import RunningMoments
from s5wm.types import EnvSpec, Key, Scalar, TimeStep


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Sizes and lengths; episodes begin as in training."""

    units: int = 64
    layers: int = 2
    rounds: int = 24  # the teacher flies the first, the student all others
    num_envs: int = 128
    steps: int = 100  # of each environment in a round
    updates: int = 500  # in a round
    batch: int = 512
    learning_rate: float = 2e-3  # falls to nothing along a cosine
    episodes: int = 100  # that teacher and student are compared with
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("units", "layers", "steps", "updates", "batch", "learning_rate", "episodes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"student.{name} is {getattr(self, name)}; it must be positive")
        for name in ("rounds", "num_envs"):
            if getattr(self, name) < 2:
                raise ValueError(f"student.{name} is {getattr(self, name)}; it must be at least 2")


@dataclass(frozen=True)
class Distilled:
    """A student and how it compares."""

    policy: PPOPolicy
    card: ImitationCard
    errors: tuple[float, ...]  # of each round before it was learned: rms over all actions and states visited


class _Stream(eqx.Module):
    """States of the environments, and the teacher's memory in each."""

    state: Any
    timestep: TimeStep
    memory: Any


class _Labelled(eqx.Module):
    """Observations with the teacher's actions."""

    obs: Float[Array, "*b O"]
    action: Float[Array, "*b A"]


def distil(agent: TrainedAgent, config: StudentConfig, *, log: Callable[[str], None]) -> Distilled:
    """Train a student, and evaluate it and its teacher.

    Raises ``ConfigError`` where the policy sees images, chooses among choices or acts in an environment that cannot be
    compiled, and ``DivergedError`` where the student does not stay finite.
    """
    _check(agent)
    k_network, k_stream, k_rounds = jr.split(jr.key(config.seed), 3)
    seen, acted, rows = agent.spec.obs_shape[0], agent.spec.action_size, config.num_envs * config.steps
    network = TanhMLP((seen, *(config.units,) * config.layers, acted), out_scale=0.01, key=k_network)
    moments = RunningMoments.init(seen)
    student = PPOPolicy(ReactiveActor(network), jnp.zeros(acted), moments, agent.spec.action)
    opt_state = _optimiser(config).init(untyped(network))
    stream = _begin(agent.env, agent.policy, config.num_envs, k_stream)
    total = config.rounds * rows
    known = _Labelled(jnp.zeros((total, seen)), jnp.zeros((total, acted)))
    errors: list[float] = []
    for index, key in enumerate(jr.split(k_rounds, config.rounds)):
        k_fly, k_learn = jr.split(key)
        by_teacher = jnp.asarray(index == 0)
        stream, new = _visit(
            agent.env, (agent.policy, student), stream, k_fly, steps=config.steps, by_teacher=by_teacher
        )
        if index == 0:  # how the inputs are scaled stays as the teacher's flights have it
            student = eqx.tree_at(lambda s: s.moments, student, moments.update(new.obs))
        errors.append(_checked(float(_error(student, new)), index, config))
        known = _with(known, new, jnp.asarray(index * rows))
        count = jnp.asarray((index + 1) * rows)
        student, opt_state = _learn(student, opt_state, known, count, k_learn, config=config)
        if index % 5 == 4 or index == config.rounds - 1:
            log(f"student: round {index + 1} of {config.rounds}, {errors[-1]:.3f} from the teacher's actions")
    log(f"flying {config.episodes} episodes each ...")
    teacher_flew, student_flew = (
        _outcome(agent, policy, config.episodes) for policy in (agent.policy, student)
    )
    card = ImitationCard(
        kind="mlp",
        units=config.units,
        layers=config.layers,
        error=errors[-1],
        episodes=config.episodes,
        teacher=teacher_flew,
        student=student_flew,
    )
    return Distilled(student, card, tuple(errors))


def _check(agent: TrainedAgent) -> None:
    spec = agent.spec
    if isinstance(agent.env, HostEnv):
        raise ConfigError(
            "a student is taught in a compiled environment, and this one runs outside the program"
        )
    if spec.has_images or len(spec.obs_shape) != 1:
        raise ConfigError(
            f"a student reads one vector, and this task shows {_shown(spec)}: leave --student out"
        )
    if not isinstance(spec.action, Box):
        raise ConfigError("a student imitates numbers, and this task takes choices: leave --student out")


def _shown(spec: EnvSpec) -> str:
    beside = f" and {spec.vector_size} numbers beside it" if spec.vector_size else ""
    return f"{'an image' if spec.has_images else 'an array'} {spec.obs_shape}{beside}"


def _checked(error: float, index: int, config: StudentConfig) -> float:
    if not np.isfinite(error):
        raise DivergedError(
            f"the student is not finite in round {index + 1} of {config.rounds}: choose a learning rate below "
            f"{config.learning_rate:g}"
        )
    return error


@jax.jit
def _with(known: _Labelled, new: _Labelled, start: Int[Array, ""]) -> _Labelled:
    """Append the new samples."""
    return jax.tree.map(lambda all_, part: jax.lax.dynamic_update_slice(all_, part, (start, 0)), known, new)


def _optimiser(config: StudentConfig) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(config.learning_rate, config.rounds * config.updates)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


@ft.partial(jax.jit, static_argnames="count")
def _begin(env: AbstractEnv[Any], teacher: Any, count: int, key: Key) -> _Stream:
    state, timestep = jax.vmap(env.reset)(jr.split(key, count))
    memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), teacher.initial())
    return _Stream(state, timestep, memory)


@ft.partial(jax.jit, static_argnames="steps")
def _visit(
    env: AbstractEnv[Any],
    policies: tuple[Any, PPOPolicy],
    stream: _Stream,
    key: Key,
    *,
    steps: int,
    by_teacher: Bool[Array, ""],
) -> tuple[_Stream, _Labelled]:
    """Steps of all environments by one of the two policies, with the teacher's actions."""
    teacher, student = policies

    def one(now: _Stream, key: Key) -> tuple[_Stream, _Labelled]:
        obs: Any = now.timestep.obs
        memory, label, _ = teacher(now.memory, obs, now.timestep.is_first, key=None)
        label = jnp.clip(label, -1.0, 1.0)
        own = jnp.clip(student(None, obs, now.timestep.is_first, key=None)[1], -1.0, 1.0)
        flown = jnp.where(by_teacher, label, own)
        if isinstance(memory, DreamerCarry):  # it remembers what was flown, not what it would have flown
            memory = replace(memory, prev_action=flown)
        state, timestep = env.step(now.state, env.spec.action.decode(flown), key)
        return _Stream(state, timestep, memory), _Labelled(obs, label)

    def together(now: _Stream, key: Key) -> tuple[_Stream, _Labelled]:
        return jax.vmap(one)(now, jr.split(key, now.timestep.is_first.shape[0]))

    stream, rows = jax.lax.scan(together, stream, jr.split(key, steps))
    return stream, jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), rows)


def _actions(student: PPOPolicy, obs: Float[Array, "B O"]) -> Float[Array, "B A"]:
    first: Bool[Array, " B"] = jnp.zeros(obs.shape[0], bool)
    return jax.vmap(lambda o, f: student(None, o, f, key=None)[1])(obs, first)


@jax.jit
def _error(student: PPOPolicy, rows: _Labelled) -> Scalar:
    given = jnp.clip(_actions(student, rows.obs), -1.0, 1.0)
    return jnp.sqrt(jnp.mean(jnp.square(given - rows.action)))


@ft.partial(jax.jit, static_argnames="config")
def _learn(
    student: PPOPolicy,
    opt_state: optax.OptState,
    known: _Labelled,
    count: Int[Array, ""],
    key: Key,
    *,
    config: StudentConfig,
) -> tuple[PPOPolicy, optax.OptState]:
    """Updates on batches drawn from the first ``count`` samples; only the network changes."""
    optimiser = _optimiser(config)

    def loss(network: Any, batch: _Labelled) -> Scalar:
        taught = eqx.tree_at(lambda s: s.actor.network, student, network)
        return jnp.mean(jnp.square(_actions(taught, batch.obs) - batch.action))

    def update(carry: tuple[Any, Any], key: Key) -> tuple[tuple[Any, Any], None]:
        network, opt_state = carry
        index = jr.randint(key, (config.batch,), 0, count)
        grads = jax.grad(loss)(network, jax.tree.map(lambda x: x[index], known))
        updates, opt_state = optimiser.update(grads, opt_state)
        return (optax.apply_updates(network, updates), opt_state), None

    assert isinstance(student.actor, ReactiveActor)
    begin = (student.actor.network, opt_state)
    (network, opt_state), _ = jax.lax.scan(update, begin, jr.split(key, config.updates))
    return eqx.tree_at(lambda s: s.actor.network, student, network), opt_state


def _outcome(agent: TrainedAgent, policy: Any, episodes: int) -> Outcome:
    judged = replace(evaluator(agent.experiment.task, episodes), draws=False)(policy, jr.key(FINAL_SEED))
    metrics = judged.metrics
    return Outcome(
        success_rate=metrics.get("success_rate"),
        lap_time_mean=metrics.get("lap_time_mean"),
        return_mean=metrics["return_nominal"],
    )
