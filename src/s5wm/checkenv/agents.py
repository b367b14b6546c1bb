"""Which agents can train on an environment, and why others cannot; found without compiling."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

from s5wm.agents.ppo.agent import PPOConfig
from s5wm.envs.adapters.gymnasium import spec_of
from s5wm.envs.adapters.observations import read_observations
from s5wm.envs.adapters.spaces import read_actions
from s5wm.envs.base import AbstractEnv
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import AgentConfig
from s5wm.experiments.presets.generic import for_generic_task
from s5wm.experiments.presets.sizes import AGENTS, agent_configs
from s5wm.types import EnvSpec


@dataclass(frozen=True)
class Judged:
    """An environment as agents see it."""

    spec: EnvSpec | None  # None: agents cannot read or step it
    misfits: dict[str, str]  # why each agent, at size ``cpu``, cannot be trained on it; empty where it can


def agents_on_jax(env: AbstractEnv[Any], is_task: bool) -> Judged:
    """Of an environment in JAX."""
    return _judged(env.spec, is_known=is_task)


def agents_on_gym(env: Any, privileged: Sequence[str] = ()) -> Judged:
    """Of a Gymnasium environment."""
    try:
        observations = read_observations(env.observation_space, privileged)
        action, _ = read_actions(env.action_space)
        spec = spec_of(env, observations, action)
    except (ConfigError, AttributeError) as error:
        return Judged(None, dict.fromkeys(AGENTS, str(error)))
    return _judged(spec, is_known=False)


def _judged(spec: EnvSpec, *, is_known: bool) -> Judged:
    return Judged(spec, {agent: _misfit(agent, spec, is_known=is_known) for agent in AGENTS})


def _misfit(name: str, spec: EnvSpec, *, is_known: bool) -> str:
    """Observations or actions that the agent does not support."""
    if len(spec.obs_shape) not in (1, 3):
        return f"its observation has shape {spec.obs_shape}; agents read vectors [n] or images [h, w, c]"
    try:
        config, train = agent_configs(name, "cpu", images=spec.has_images)
        if not is_known:
            config, train = for_generic_task(config, train, "cpu", spec)
        if not spec.privileged_size and _is_privileged(config):
            return (
                "the environment has no privileged vector (give one by --privileged KEY of a Dict observation, "
                "or by EnvSpec.privileged_size)"
            )
        agent = config.build(spec, num_envs=1)
        jax.eval_shape(lambda: _acted(agent, spec))
    except (ConfigError, ValueError, TypeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return ""


def _is_privileged(config: AgentConfig) -> bool:
    """Whether it learns from a privileged vector."""
    if isinstance(config, PPOConfig):
        return config.critic_inputs == "privileged"
    return config.world_model.target == "privileged"


def _acted(agent: Any, spec: EnvSpec) -> Any:
    """One action of fresh parameters."""
    policy = agent.policy(agent.init(jr.key(0)))
    return policy(policy.initial(), spec.zero_obs(), jnp.ones((), bool), key=None)
