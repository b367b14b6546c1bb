"""Speed of an environment without an agent."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

from s5wm.api import make
from s5wm.runs.provenance import provenance
from s5wm.types import array_of


def time_env(task: str, num_envs: int, steps: int, repeats: int) -> dict[str, Any]:
    """Environment steps per second under random actions."""
    env = make(task)
    k_reset, k_step = jr.split(jr.key(0))
    states, _ = jax.jit(jax.vmap(env.reset))(jr.split(k_reset, num_envs))

    @jax.jit
    def advance(states: Any, key: Any) -> Any:
        def step(states: Any, key: Any) -> tuple[Any, Any]:
            k_action, k_env = jr.split(key)
            action = jr.uniform(k_action, (num_envs, env.spec.action_size), minval=-1.0, maxval=1.0)
            states, timestep = jax.vmap(env.step)(states, action, jr.split(k_env, num_envs))
            # What is not used is not computed, a picture least of all.
            return states, (timestep.reward.nominal.sum(), jnp.max(array_of(timestep.obs)))

        return jax.lax.scan(step, states, jr.split(key, steps))

    states, _ = jax.block_until_ready(advance(states, k_step))
    samples: list[float] = []
    for _ in range(repeats):
        begun = time.perf_counter()
        states, _ = jax.block_until_ready(advance(states, k_step))
        samples.append(num_envs * steps / (time.perf_counter() - begun))
    median = sorted(samples)[len(samples) // 2]
    options = {"task": task, "num_envs": num_envs, "steps": steps}
    return {"env_steps_per_s": median, "samples": samples, **options, **provenance()}
