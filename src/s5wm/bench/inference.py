"""Latency of one policy step: an observation comes in as NumPy, an action goes out as NumPy."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from s5wm.experiments.experiment import AgentConfig
from s5wm.types import EnvSpec

WARM_UP = 50


def _made_up(spec: EnvSpec, count: int) -> np.ndarray:
    drawn, shape = np.random.default_rng(0), (count, *spec.obs_shape)
    if spec.has_images:
        return drawn.integers(256, size=shape, dtype=np.uint8)
    return drawn.normal(size=shape).astype(np.float32)


def time_policy(config: AgentConfig, spec: EnvSpec, *, steps: int) -> dict[str, Any]:
    """``p50_ms``, ``p99_ms``, ``max_ms`` and all samples of a policy with fresh parameters."""
    agent: Any = config.build(spec, num_envs=1)  # whichever it is, it inits the learner whose policy it gives
    policy = jax.jit(lambda key: agent.policy(agent.init(key)))(jr.key(0))
    # The policy is an argument, as it is where policies act: closed over, its weights would be folded.
    step = jax.jit(
        lambda policy, carry, obs, first: policy(carry, obs, first, key=None)[:2], donate_argnums=1
    )
    first = jnp.zeros((), bool)
    carry: Any = jax.tree.map(jnp.copy, policy.initial())  # nothing at all where a policy has no memory
    observations = _made_up(spec, steps + WARM_UP)
    samples: list[float] = []
    for obs in observations:
        begun = time.perf_counter()
        carry, action = step(policy, carry, obs, first)
        np.asarray(action)
        samples.append(1000 * (time.perf_counter() - begun))
    samples = samples[WARM_UP:]
    p50, p99 = np.percentile(samples, [50, 99])
    return {
        "params": sum(leaf.size for leaf in jax.tree.leaves(policy)),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "max_ms": max(samples),
        "samples_ms": samples,
    }
