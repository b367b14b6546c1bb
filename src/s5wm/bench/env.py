"""Speed of an environment without an agent."""

import time
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

from s5wm.api import make
from s5wm.runs.provenance import provenance
from s5wm.types import Scalar


def time_env(task: str, num_envs: int, steps: int, repeats: int) -> dict[str, Any]:
    """Environment steps per second under random actions."""
    env = make(task)
    k_reset, k_step = jr.split(jr.key(0))
    states, _ = jax.jit(jax.vmap(env.reset))(jr.split(k_reset, num_envs))

    @jax.jit
    def advance(states: Any, key: Any) -> Any:
        def step(states: Any, key: Any) -> tuple[Any, Scalar]:
            k_action, k_env = jr.split(key)
            chosen = jr.uniform(k_action, (num_envs, env.spec.action_size), minval=-1.0, maxval=1.0)
            keys = jr.split(k_env, num_envs)
            states, timestep = jax.vmap(env.step)(states, env.spec.action.decode(chosen), keys)
            return states, _sum_of(timestep)

        return jax.lax.scan(step, states, jr.split(key, steps))

    states, _ = jax.block_until_ready(advance(states, k_step))
    samples: list[float] = []
    for _ in range(repeats):
        begun = time.perf_counter()
        states, _ = jax.block_until_ready(advance(states, k_step))
        samples.append(num_envs * steps / (time.perf_counter() - begun))
    options = {"task": task, "num_envs": num_envs, "steps": steps}
    return {"env_steps_per_s": median(samples), "samples": samples, **options, **provenance()}


def _sum_of(timestep: Any) -> Scalar:
    """Of every number of a time step: what is not used is not computed, a picture least of all."""
    return sum((jnp.sum(leaf, dtype=jnp.float32) for leaf in jax.tree.leaves(timestep)), jnp.zeros(()))
