"""Time of one gradient update, whole and in its two parts, agents side by side in one process.

The parts are timed on a batch that lies ready: the world model's loss, gradient and optimiser; the actor-critic's
imagination, losses, gradient and optimiser from the beliefs of that batch.  The whole update shares the optimiser,
and draws from the replay and writes back besides, as training does.  Also as in training, several updates follow each
other in one program (``per_call``); a sample is the time of the program divided by them.  The replay is small here and
its windows are the same in every sample: caches serve it better than a long training's.
"""

import functools as ft
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from s5wm.agents.dreamer.agent import Dreamer, DreamerConfig, DreamerLearner
from s5wm.agents.dreamer.heads import Actor, Critic
from s5wm.agents.dreamer.imagination import Networks
from s5wm.agents.dreamer.stored import to_chunk
from s5wm.agents.optimiser import untyped
from s5wm.bench.roofline import Work, measure_ceilings, work_of
from s5wm.types import EnvSpec, Key, Reward, Scalar, TimeStep, Transition
from s5wm.worldmodel.chunk import Chunk
from s5wm.worldmodel.model import WorldModel, batch_loss

BASELINES = ("dreamerv3", "dreamerv3-p")
PARTS = ("world_model", "actor_critic", "update")
MIN_SAMPLES = 20
WARM_UP = 2  # samples not counted


class _ModelPart(eqx.Module):
    """Named like the optimiser's groups."""

    world_model: WorldModel[Any]


class _BehaviourPart(eqx.Module):
    actor: Actor
    critic: Critic


@dataclass(frozen=True)
class Timed:
    """One compiled part and its samples."""

    compile_s: float
    samples_ms: list[float]

    @property
    def median_ms(self) -> float:
        """Middle sample."""
        return median(self.samples_ms)


def time_updates(
    configs: Mapping[str, DreamerConfig],
    spec: EnvSpec,
    *,
    parts: Sequence[str] = PARTS,
    seconds: float,
    per_call: int = 4,
    key: Key,
) -> dict[str, dict[str, Any]]:
    """Per agent ``params``, ``world_model_ms``, ``actor_critic_ms``, ``update_ms``, raw samples and arithmetic.

    Agents take turns, sample by sample, so that a change of the machine's speed meets all of them.
    ``seconds`` is for each part of each agent, but at least ``MIN_SAMPLES`` samples are taken.
    """
    agents = {name: config.build(spec, num_envs=config.replay.batch) for name, config in configs.items()}
    learners = {name: filled_learner(agent, key) for name, agent in agents.items()}
    timings: dict[str, dict[str, Any]] = {
        name: {
            "params": sum(leaf.size for leaf in jax.tree.leaves(learner.params)),
            "world_model_params": sum(leaf.size for leaf in jax.tree.leaves(learner.params.world_model)),
            "per_call": per_call,
            "starts": configs[name].actor_critic.num_imagination_starts,
            "horizon": configs[name].actor_critic.imagination_horizon,
        }
        for name, learner in learners.items()
    }
    for part in parts:
        programs = {name: _program(part, agent, learners[name], key) for name, agent in agents.items()}
        for name, program in programs.items():
            work = work_of(program.advance, program.state, key, *program.inputs)
            timings[name] |= {f"{part}_gflop": work.flops / 1e9, f"{part}_gbyte": work.traffic / 1e9}
        for name, timed in _take_turns(programs, seconds, jr.split(key, per_call)).items():
            timings[name] |= {
                f"{part}_ms": timed.median_ms,
                f"{part}_compile_s": timed.compile_s,
                f"{part}_samples_ms": timed.samples_ms,
            }
    return timings


def side_by_side(
    configs: Mapping[str, DreamerConfig],
    spec: EnvSpec,
    *,
    parts: Sequence[str] = PARTS,
    seconds: float,
    per_call: int = 4,
    key: Key,
) -> dict[str, Any]:
    """``time_updates`` with the shape of the batch, ``roofline_*_ms`` under the ceilings measured before, and
    ``speedup_*`` where DreamerV3 (or its form with privileged targets) is among the agents.
    """
    ceilings = measure_ceilings()
    agents = time_updates(configs, spec, parts=parts, seconds=seconds, per_call=per_call, key=key)
    for own in agents.values():
        work = {part: Work(1e9 * own[f"{part}_gflop"], 1e9 * own[f"{part}_gbyte"]) for part in parts}
        own |= {f"roofline_{part}_ms": ceilings.bound_ms(work[part]) for part in parts}
    baselines = [name for name in BASELINES if name in agents]
    if baselines:
        for name, ratios in speedups(agents, baselines[0]).items():
            agents[name] |= ratios
    replay = next(iter(configs.values())).replay
    shape = {"batch": replay.batch, "length": replay.length}
    return {**shape, "ceilings": asdict(ceilings), "agents": agents}


def speedups(
    timings: Mapping[str, Mapping[str, Any]], baseline: str = "dreamerv3"
) -> dict[str, dict[str, float]]:
    """How many times faster than the baseline each agent is, from medians of the same run."""
    base = timings[baseline]
    return {
        name: {
            f"speedup_{part}": base[f"{part}_ms"] / own[f"{part}_ms"] for part in PARTS if f"{part}_ms" in own
        }
        for name, own in timings.items()
    }


def filled_learner(agent: Dreamer, key: Key) -> DreamerLearner:
    """A fresh learner whose replay is full of random transitions; some end an episode."""

    @jax.jit
    def build(key: Key) -> DreamerLearner:
        k_init, k_data = jr.split(key)
        learner = agent.init(k_init)
        shape = (agent.num_envs, learner.replay.capacity)
        data = _random_transitions(agent.spec, shape, learner.replay.rows.extras, k_data)
        full = jnp.asarray(learner.replay.capacity, jnp.int32)
        return eqx.tree_at(lambda x: (x.replay.rows, x.replay.filled), learner, (data, full))

    return build(key)


def _random_transitions(spec: EnvSpec, shape: tuple[int, int], extras: Any, key: Key) -> Transition[Any]:
    k_obs, k_privileged, k_nominal, k_smoothing, k_last, k_action = jr.split(key, 6)
    is_last = jr.bernoulli(k_last, 0.01, shape)
    timestep = TimeStep(
        obs=jr.bits(k_obs, (*shape, *spec.obs_shape), jnp.uint8)
        if spec.has_images
        else jr.normal(k_obs, (*shape, *spec.obs_shape)),
        privileged=jr.normal(k_privileged, (*shape, spec.privileged_size)) if spec.privileged_size else None,
        reward=Reward(
            0.1 * jr.normal(k_nominal, shape),
            0.1 * jr.normal(k_smoothing, shape) if spec.has_smoothing else None,
        ),
        is_first=jnp.roll(is_last, 1, axis=1),
        is_last=is_last,
        is_terminal=is_last,
    )
    return Transition(timestep, jr.uniform(k_action, (*shape, spec.action_size), minval=-1, maxval=1), extras)


@dataclass(frozen=True)
class _Program:
    """``advance(state, key, *inputs)`` gives the next state."""

    advance: Callable[..., Any]
    state: Any
    inputs: tuple[Any, ...]


def _program(part: str, agent: Dreamer, learner: DreamerLearner, key: Key) -> _Program:
    params, optimiser = learner.params, agent.config.build_optimiser()
    if part == "update":
        copied = jax.tree.map(jnp.copy, learner)
        return _Program(lambda x, k: agent.gradient_step(x, jnp.zeros(()), k)[0], copied, ())
    chunk = jax.jit(lambda replay: to_chunk(agent.sample(replay, key)[1]))(learner.replay)
    if part == "world_model":
        trained, inputs = _ModelPart(params.world_model), (chunk,)
        loss = _model_loss
    else:
        belief = jax.jit(lambda m, c: batch_loss(m, c, key)[1].posterior.belief)(params.world_model, chunk)
        trained, inputs = _BehaviourPart(params.actor, params.critic), (learner, belief, chunk.timestep)
        loss = ft.partial(_behaviour_loss, agent)

    def advance(state: tuple[Any, Any], key: Key, *inputs: Any) -> tuple[Any, Any]:
        trained, moments = state
        updates, moments = optimiser.update(jax.grad(loss)(trained, key, *inputs), moments, untyped(trained))
        return jax.tree.map(jnp.add, trained, updates), moments

    state = jax.tree.map(jnp.copy, (trained, optimiser.init(untyped(trained))))
    return _Program(advance, state, inputs)


def _model_loss(part: _ModelPart, key: Key, chunk: Chunk[Any]) -> Scalar:
    return batch_loss(part.world_model, chunk, key)[0]


def _behaviour_loss(
    agent: Dreamer, part: _BehaviourPart, key: Key, learner: DreamerLearner, belief: Any, timestep: TimeStep
) -> Scalar:
    nets = Networks(learner.params.world_model, part.actor, part.critic, learner.slow_critic)
    return agent.actor_critic_loss(nets, learner.return_scale, belief, timestep, jnp.zeros(()), key)[0]


def _repeated(program: _Program) -> Callable[..., Any]:
    def run(state: Any, keys: Array, *inputs: Any) -> Any:
        def step(state: Any, key: Key) -> tuple[Any, None]:
            # Tied to the state, or the compiler would compute once for all updates what depends on the inputs alone.
            state, tied = jax.lax.optimization_barrier((state, inputs))
            return program.advance(state, key, *tied), None

        return jax.lax.scan(step, state, keys)[0]

    return run


def _take_turns(programs: Mapping[str, _Program], seconds: float, keys: Array) -> dict[str, Timed]:
    compiled: dict[str, Any] = {}
    compile_s: dict[str, float] = {}
    for name, program in programs.items():
        begun = time.perf_counter()
        compiled[name] = (
            jax.jit(_repeated(program), donate_argnums=0)
            .lower(program.state, keys, *program.inputs)
            .compile()
        )
        compile_s[name] = time.perf_counter() - begun
    states = {name: program.state for name, program in programs.items()}
    samples: dict[str, list[float]] = {name: [] for name in programs}
    while any(
        len(taken) < MIN_SAMPLES + WARM_UP or len(keys) * sum(taken) < 1000 * seconds
        for taken in samples.values()
    ):
        for name, program in programs.items():
            begun = time.perf_counter()
            states[name] = jax.block_until_ready(compiled[name](states[name], keys, *program.inputs))
            samples[name].append(1000 * (time.perf_counter() - begun) / len(keys))
    return {name: Timed(compile_s[name], samples_ms=samples[name][WARM_UP:]) for name in programs}
