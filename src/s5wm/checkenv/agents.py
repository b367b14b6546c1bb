"""Which agents can train on an environment, and why others cannot; nothing is compiled to find out."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

from s5wm.envs.base import AbstractEnv
from s5wm.errors import ConfigError
from s5wm.sizes import AGENTS, agent_configs
from s5wm.types import EnvSpec

HOST_ENV = (
    "its steps are taken in Python, and agents are trained inside one compiled program, on environments of pure JAX "
    "functions (AbstractEnv)"
)


def agents_on_jax(env: AbstractEnv[Any], is_task: bool) -> dict[str, str]:
    """For each agent, at size ``cpu``, why it cannot be trained on the environment; empty where it can."""
    if not is_task:
        reason = "s5wm train knows tasks only: make it one (CONTRIBUTING, Add an environment)"
        return {agent: _misfit(agent, env.spec) or reason for agent in AGENTS}
    return {agent: _misfit(agent, env.spec) for agent in AGENTS}


def agents_on_gym(env: Any) -> dict[str, str]:
    """The same of a Gymnasium environment."""
    reasons = [HOST_ENV]
    for space, has in (
        ("observation_space", "one array of real numbers"),
        ("action_space", "numbers in [-1, 1]"),
    ):
        kind = type(getattr(env, space, None)).__name__
        if kind != "Box":
            reasons.append(f"its {space} is {kind}, agents have {has}")
    return dict.fromkeys(AGENTS, "; ".join(reasons))


def _misfit(name: str, spec: EnvSpec) -> str:
    """What of its observations, or of its numbers, the agent cannot do with."""
    if spec.action_size < 1:
        return f"its action has {spec.action_size} numbers"
    if len(spec.obs_shape) not in (1, 3):
        return f"its observation has shape {spec.obs_shape}; agents read vectors [n] or images [h, w, 3]"
    try:
        config, _ = agent_configs(name, "cpu", images=spec.has_images)
        agent = config.build(spec, num_envs=1)
        jax.eval_shape(lambda: _acted(agent, spec))
    except (ConfigError, ValueError, TypeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return ""


def _acted(agent: Any, spec: EnvSpec) -> Any:
    """One action of fresh parameters."""
    policy = agent.policy(agent.init(jr.key(0)))
    obs = jnp.zeros(spec.obs_shape, spec.obs_dtype)
    return policy(policy.initial(), obs, jnp.ones((), bool), key=None)
