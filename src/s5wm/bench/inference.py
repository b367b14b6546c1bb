"""Latency of one policy step: an observation comes in as NumPy, an action goes out as NumPy."""

import time
from collections.abc import Mapping
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


def time_policies(
    configs: Mapping[str, AgentConfig], spec: EnvSpec, *, steps: int
) -> dict[str, dict[str, Any]]:
    """``p50_ms``, ``p99_ms``, ``max_ms`` and all samples of policies with fresh parameters, by agent.

    They take turns, step by step, so that a change of the machine's speed meets all of them.
    """
    policies = {name: _Stepped(config, spec) for name, config in configs.items()}
    samples: dict[str, list[float]] = {name: [] for name in policies}
    for obs in _made_up(spec, steps + WARM_UP):
        for name, policy in policies.items():
            begun = time.perf_counter()
            policy.step(obs)
            samples[name].append(1000 * (time.perf_counter() - begun))
    return {name: _figures(policy.params, samples[name][WARM_UP:]) for name, policy in policies.items()}


class _Stepped:
    """A policy, its memory and its compiled step."""

    def __init__(self, config: AgentConfig, spec: EnvSpec) -> None:
        # Whichever agent it is, it inits the learner whose policy it gives.
        agent: Any = config.build(spec, num_envs=1)
        self._policy = jax.jit(lambda key: agent.policy(agent.init(key)))(jr.key(0))
        # The policy is an argument, as it is where policies act: closed over, its weights would be folded.
        self._step = jax.jit(
            lambda policy, carry, obs, first: policy(carry, obs, first, key=None)[:2], donate_argnums=1
        )
        self._first = jnp.zeros((), bool)
        # Nothing at all where a policy has no memory.
        self._carry: Any = jax.tree.map(jnp.copy, self._policy.initial())
        self.params = sum(leaf.size for leaf in jax.tree.leaves(self._policy))

    def step(self, obs: np.ndarray) -> None:
        """One observation in, one action out."""
        self._carry, action = self._step(self._policy, self._carry, obs, self._first)
        np.asarray(action)


def _figures(params: int, samples: list[float]) -> dict[str, Any]:
    p50, p99 = np.percentile(samples, [50, 99])
    return {
        "params": params,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "max_ms": max(samples),
        "samples_ms": samples,
    }
