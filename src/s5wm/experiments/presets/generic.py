"""Presets for environments that the package does not know: unknown scales, few steps.

Observations and rewards of unknown scale are read in symlog, rewards and values are spread over DreamerV3's bins.
``TRAIN_RATIO`` is the field's: time steps trained on per environment step.
"""

from dataclasses import replace

from s5wm.actions import Box
from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.agents.ppo.agent import PPOConfig
from s5wm.experiments.experiment import AgentConfig
from s5wm.experiments.presets.sizes import dreamerv3_vision_cpu, s5wm_vision_cpu
from s5wm.nn.s5 import S5Config
from s5wm.training.config import TrainConfig
from s5wm.types import EnvSpec
from s5wm.worldmodel.config import BinsConfig
from s5wm.worldmodel.privileged_state import PrivilegedStateConfig

TRAIN_RATIO = 128
"""Of world-model agents."""

NUM_ENVS = 8
ROLLOUT = 16
ENV_STEPS = 100_000

Configs = tuple[AgentConfig, TrainConfig]


def for_generic_task(agent: AgentConfig, train: TrainConfig, size: str, spec: EnvSpec) -> Configs:
    """A preset for tasks of ours, changed for an environment of this spec that is none of them."""
    if isinstance(agent, PPOConfig):
        return agent, replace(
            train,
            num_envs=16,
            rollout_length=128,
            iterations_per_chunk=4,
            env_steps=1_000_000,
            eval_every=50_000,
            eval_episodes=16,
            checkpoint_every=100_000,
        )
    train = replace(
        train,
        num_envs=NUM_ENVS,
        rollout_length=ROLLOUT,
        iterations_per_chunk=4,
        env_steps=ENV_STEPS,
        eval_every=5_000,
        eval_episodes=16,
        checkpoint_every=10_000,
        decay_from=1.0,
    )
    if isinstance(agent.world_model.latent, PrivilegedStateConfig):
        agent = _with_codes(agent)
    agent = replace(agent, updates_per_rollout=updates_for(agent, train))
    if not isinstance(spec.action, Box):
        agent = replace(agent, actor_critic=replace(agent.actor_critic, gradient="reinforce"))
    return FOR_SMALL_BUDGETS.get(size, lambda same: same)(agent), train


def _with_codes(agent: DreamerConfig) -> DreamerConfig:
    """Codes in place of the privileged state itself: that of a user's task may leave out what the task needs.

    With errors of unit spread, information in small numbers would not be worth its nats.
    """
    is_s5 = isinstance(agent.world_model.core, S5Config)
    plain, _ = s5wm_vision_cpu() if is_s5 else dreamerv3_vision_cpu()
    model = replace(plain.world_model, target="privileged", learned_scale=True)
    return replace(plain, world_model=model)


def updates_for(agent: DreamerConfig, train: TrainConfig, ratio: float = TRAIN_RATIO) -> int:
    """Gradient steps per rollout that make this train ratio, at least one."""
    return max(1, round(ratio * train.iteration_steps / (agent.replay.batch * agent.replay.length)))


def _brisk(agent: DreamerConfig) -> DreamerConfig:
    """Size ``1m``: with DreamerV3's rate of 4e-5 the few thousand updates of such a budget teach nothing."""
    return replace(agent, optimiser=replace(agent.optimiser, learning_rate=4e-4, warmup=200))


def _small(agent: DreamerConfig) -> DreamerConfig:
    """Size ``cpu``: what it takes of the race's scales is widened, and learning begins early."""
    model = replace(agent.world_model, symlog_inputs=True, bins=BinsConfig(count=127, limit=12.0))
    return replace(
        agent,
        world_model=model,
        actor=replace(agent.actor, std_min=0.1, std_max=1.0, std_bias=0.0),
        critic=replace(agent.critic, bins=127, limit=12.0),
        actor_critic=replace(agent.actor_critic, imagination_horizon=15, num_imagination_starts=128),
        optimiser=replace(
            agent.optimiser, learning_rate=1e-3, warmup=100, actor_multiplier=0.3, critic_multiplier=0.3
        ),
        replay=replace(agent.replay, capacity=16_384, prefill=1024),
        actor_critic_warmup=200,
    )


FOR_SMALL_BUDGETS = {"cpu": _small, "1m": _brisk}
