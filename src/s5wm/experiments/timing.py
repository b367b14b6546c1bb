"""Timing of the parts of a training iteration."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.random as jr

from s5wm.agents.base import AbstractAgent
from s5wm.agents.dreamer.agent import Dreamer, DreamerLearner
from s5wm.agents.dreamer.stored import to_chunk
from s5wm.envs.base import AbstractEnv
from s5wm.ops.batches import shard_batch
from s5wm.training.loop import unroll
from s5wm.training.state import TrainState
from s5wm.types import Key
from s5wm.worldmodel.model import batch_loss

REPEATS = 3


def time_pieces(
    env: AbstractEnv[Any], agent: AbstractAgent[Any, Any, Any], state: TrainState[Any], *, length: int
) -> dict[str, float]:
    """Seconds per iteration of collection and of the world model (sampling, loss and gradient), each alone.

    Each is compiled by itself and run three times on the present state; the quickest counts.  What an iteration
    takes beyond both is the actor-critic, the optimiser and the write-back.
    """
    key = jr.key(0)

    @jax.jit
    def collect(state: TrainState[Any]) -> Any:
        return unroll(env, agent.policy(state.learner), state.actor, length=length, key=key)

    pieces = {"collect": _quickest(lambda: collect(state))}
    if isinstance(agent, Dreamer):
        learner = state.learner
        update = jax.jit(lambda learner: _world_model_gradient(agent, learner, key))
        pieces["world_model"] = _quickest(lambda: update(learner)) * agent.config.updates_per_rollout
    else:
        pieces["world_model"] = 0.0
    return pieces


def _world_model_gradient(agent: Dreamer, learner: DreamerLearner, key: Key) -> Any:
    k_sample, k_noise = jr.split(key)
    chunk = shard_batch(to_chunk(agent.sample(learner.replay, k_sample)[1]))
    return jax.grad(lambda model: batch_loss(model, chunk, k_noise)[0])(learner.params.world_model)


def _quickest(call: Callable[[], Any]) -> float:
    jax.block_until_ready(call())
    times: list[float] = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begun)
    return min(times)
