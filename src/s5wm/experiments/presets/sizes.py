"""Agents by name and size, each a plain value: for tasks that show vectors and for those that show images.

What size ``cpu`` changes, and why, is in docs/deviations.md.
"""

from collections.abc import Callable
from dataclasses import replace

from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.agents.dreamer.heads import ActorConfig, CriticConfig
from s5wm.agents.dreamer.imagination import ActorCriticConfig
from s5wm.agents.optimiser import OptimiserConfig
from s5wm.agents.ppo.actor import FrameStackConfig
from s5wm.agents.ppo.agent import PPOConfig
from s5wm.agents.replay import ReplayConfig
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import AgentConfig
from s5wm.nn.conv import ConvConfig, PatchConfig
from s5wm.nn.gru import BlockGRUConfig
from s5wm.nn.s5 import S5Config
from s5wm.runs.codec import suggest
from s5wm.training.config import TrainConfig
from s5wm.worldmodel.config import BinsConfig, CoreConfig, LossScales, PosteriorInput, WorldModelConfig
from s5wm.worldmodel.latent import CategoricalConfig, GaussianConfig, IdentityLatentConfig
from s5wm.worldmodel.privileged_state import PrivilegedStateConfig

Configs = tuple[AgentConfig, TrainConfig]
WorldModelConfigs = tuple[DreamerConfig, TrainConfig]


def s5wm_cpu() -> WorldModelConfigs:
    """S5WM for two CPU cores; what differs from sizes 1m and 12m, and why, is in docs/deviations.md."""
    agent = DreamerConfig(
        world_model=WorldModelConfig(
            core=S5Config(width=64, state_size=32, layers=2, dt_min=1e-2, dt_max=1.0, output_scale=0.1),
            latent=IdentityLatentConfig(),
            image=PatchConfig(),
            units=128,
            reward_layers=1,
            cont_layers=2,
            linear_skips=True,
            prior_sees_inputs=True,
            symlog_inputs=False,
            bins=BinsConfig(count=63, limit=3.0),
            scales=LossScales(free_nats=0.0),
        ),
        actor=ActorConfig(units=64, layers=2, std_min=0.05, std_max=0.6, std_bias=0.0),
        critic=CriticConfig(units=64, layers=2, bins=63, limit=5.0),
        actor_critic=ActorCriticConfig(
            gradient="dynamics", num_imagination_starts=64, replay_critic_weight=1.0
        ),
        optimiser=OptimiserConfig(
            learning_rate=3e-3, warmup=500, actor_multiplier=0.2, critic_multiplier=0.3
        ),
        replay=ReplayConfig(capacity=1024, batch=16, length=32, prefill=16384),
        discount_horizon=100.0,
        updates_per_rollout=16,
        actor_critic_warmup=1000,
        replay_gradient=False,
    )
    train = TrainConfig(
        num_envs=128,
        rollout_length=16,
        iterations_per_chunk=16,
        env_steps=12_000_000,
        eval_every=250_000,
        checkpoint_every=500_000,
        decay_from=0.75,
    )
    return agent, train


def s5wm_1m() -> WorldModelConfigs:
    """S5WM of about a million parameters; losses, heads and optimiser are DreamerV3's."""
    core = S5Config(width=256, state_size=128, layers=2)
    return _faithful(core, CategoricalConfig(groups=32, classes=4), ConvConfig(depth=4), units=64)


def s5wm_12m() -> WorldModelConfigs:
    """S5WM of about twelve million parameters."""
    core = S5Config(width=768, state_size=512, layers=3)
    return _faithful(core, CategoricalConfig(groups=32, classes=16), ConvConfig(depth=16), units=256)


def dreamerv3_cpu() -> WorldModelConfigs:
    """DreamerV3's core in the small model, of equal parameters and feature width; all else is S5WM's of that size.

    An observed latent leaves nothing for a posterior to learn, so this size differs from S5WM in the core alone.
    """
    agent, train = s5wm_cpu()
    return _with_core(agent, BlockGRUConfig(width=64, hidden=80), PosteriorInput.OBSERVATION), train


def dreamerv3_1m() -> WorldModelConfigs:
    """DreamerV3's size of that name."""
    agent, train = s5wm_1m()
    return _with_core(agent, BlockGRUConfig(width=512, hidden=64), PosteriorInput.MEMORY), train


def dreamerv3_12m() -> WorldModelConfigs:
    """DreamerV3's size of that name."""
    agent, train = s5wm_12m()
    return _with_core(agent, BlockGRUConfig(width=2048, hidden=256), PosteriorInput.MEMORY), train


def _with_core(agent: DreamerConfig, core: CoreConfig, posterior: PosteriorInput) -> DreamerConfig:
    """Another core and posterior, all else equal."""
    return replace(agent, world_model=replace(agent.world_model, core=core, posterior=posterior))


def _faithful(
    core: CoreConfig, latent: CategoricalConfig, image: ConvConfig, *, units: int
) -> WorldModelConfigs:
    agent = DreamerConfig(
        world_model=WorldModelConfig(core=core, latent=latent, image=image, units=units),
        actor=ActorConfig(units=units),
        critic=CriticConfig(units=units),
        # Of the 1024 states of a batch: an eighth of the cost, and enough (docs/lab-notes.md, 11).
        actor_critic=ActorCriticConfig(num_imagination_starts=128),
        replay=ReplayConfig(capacity=65536, batch=16, length=64),
        updates_per_rollout=128,
    )
    train = TrainConfig(num_envs=16, rollout_length=16, iterations_per_chunk=8, eval_every=50_000)
    return agent, train


def ppo_cpu() -> tuple[PPOConfig, TrainConfig]:
    """Proximal policy optimisation; its noise sinks to nothing over the second half (docs/lab-notes.md, 14)."""
    train = TrainConfig(
        num_envs=256,
        rollout_length=64,
        iterations_per_chunk=10,
        env_steps=16_000_000,
        eval_every=160_000,
        checkpoint_every=2_000_000,
        decay_from=0.5,
    )
    return PPOConfig(log_std_final=-4.5), train


def ppo_asymmetric_cpu() -> tuple[PPOConfig, TrainConfig]:
    """PPO whose critic alone reads the privileged state."""
    agent, train = ppo_cpu()
    return replace(agent, critic_inputs="privileged"), train


def s5wm_vision_cpu() -> WorldModelConfigs:
    """S5WM from images for two CPU cores; a frame is no state, so it has a latent code and a larger memory."""
    agent, train = s5wm_cpu()
    world_model = replace(
        agent.world_model,
        core=S5Config(width=128, state_size=64, layers=2, dt_min=1e-2, dt_max=1.0),
        latent=GaussianConfig(width=32),
        scales=LossScales(free_nats=1.0),
    )
    agent = replace(
        agent,
        world_model=world_model,
        optimiser=replace(agent.optimiser, ssm_multiplier=1.0),
        replay=replace(agent.replay, capacity=2048),
    )
    return agent, replace(train, num_envs=64)


def s5wm_p_vision_cpu() -> WorldModelConfigs:
    """The same where the privileged state may be learned from: it is the latent, and is estimated from images."""
    # As it was trained; the quieter output of states is untried with PrivilegedStateConfig.
    core = replace(s5wm_cpu()[0].world_model.core, output_scale=1.0)
    return _with_estimator(s5wm_vision_cpu()[0].world_model.core, core)


def dreamerv3_vision_cpu() -> WorldModelConfigs:
    """DreamerV3's core and posterior in that model, features of equal width."""
    agent, train = s5wm_vision_cpu()
    return _with_core(agent, BlockGRUConfig(width=128, hidden=120), PosteriorInput.MEMORY), train


def dreamerv3_p_vision_cpu() -> WorldModelConfigs:
    """DreamerV3's core as filter and in the dynamics; PrivilegedStateConfig leaves no other posterior to choose."""
    return _with_estimator(BlockGRUConfig(width=128, hidden=84), dreamerv3_cpu()[0].world_model.core)


def _with_estimator(estimator: CoreConfig, core: CoreConfig) -> WorldModelConfigs:
    agent, train = s5wm_vision_cpu()
    world_model = replace(
        agent.world_model,
        target="privileged",
        core=core,
        latent=PrivilegedStateConfig(filter=estimator),
        scales=LossScales(free_nats=0.0),
        learned_scale=True,
    )
    # Short windows show more places: 32 consecutive frames look much the same.
    replay = replace(agent.replay, batch=32, length=16)
    agent = replace(agent, world_model=world_model, replay=replay, ema_rate=0.004, ema_start=20_000)
    return agent, replace(train, eval_every=125_000, decay_from=0.5)


def ppo_asymmetric_vision_cpu() -> tuple[PPOConfig, TrainConfig]:
    """The actor sees three frames, the critic the privileged state."""
    agent, train = ppo_asymmetric_cpu()
    agent = replace(agent, memory=FrameStackConfig(), image=PatchConfig(), epochs=3)
    return agent, replace(train, num_envs=64)


def with_privileged_target(configs: Callable[[], WorldModelConfigs]) -> Callable[[], WorldModelConfigs]:
    """The same agent, its decoder asked for the privileged state."""

    def changed() -> WorldModelConfigs:
        agent, train = configs()
        return replace(agent, world_model=replace(agent.world_model, target="privileged")), train

    return changed


def with_images(configs: Callable[[], WorldModelConfigs]) -> Callable[[], WorldModelConfigs]:
    """The faithful agent at the train ratio of images: every time step is replayed 256 times instead of 512."""

    def changed() -> WorldModelConfigs:
        agent, train = configs()
        return replace(agent, updates_per_rollout=agent.updates_per_rollout // 2), train

    return changed


Sizes = dict[str, Callable[[], Configs]]

AGENTS: dict[str, Sizes] = {
    "s5wm": {"cpu": s5wm_cpu, "1m": s5wm_1m, "12m": s5wm_12m},
    "s5wm-p": {
        "cpu": with_privileged_target(s5wm_cpu),
        "1m": with_privileged_target(s5wm_1m),
        "12m": with_privileged_target(s5wm_12m),
    },
    "dreamerv3": {"cpu": dreamerv3_cpu, "1m": dreamerv3_1m, "12m": dreamerv3_12m},
    "dreamerv3-p": {
        "cpu": with_privileged_target(dreamerv3_cpu),
        "1m": with_privileged_target(dreamerv3_1m),
        "12m": with_privileged_target(dreamerv3_12m),
    },
    "ppo": {"cpu": ppo_cpu},
    "ppo-asymmetric": {"cpu": ppo_asymmetric_cpu},
}
"""Where tasks show vectors."""

VISION_AGENTS: dict[str, Sizes] = {
    "s5wm": {"cpu": s5wm_vision_cpu, "1m": with_images(s5wm_1m), "12m": with_images(s5wm_12m)},
    "s5wm-p": {
        "cpu": s5wm_p_vision_cpu,
        "1m": with_images(with_privileged_target(s5wm_1m)),
        "12m": with_images(with_privileged_target(s5wm_12m)),
    },
    "dreamerv3": {
        "cpu": dreamerv3_vision_cpu,
        "1m": with_images(dreamerv3_1m),
        "12m": with_images(dreamerv3_12m),
    },
    "dreamerv3-p": {
        "cpu": dreamerv3_p_vision_cpu,
        "1m": with_images(with_privileged_target(dreamerv3_1m)),
        "12m": with_images(with_privileged_target(dreamerv3_12m)),
    },
    "ppo-asymmetric": {"cpu": ppo_asymmetric_vision_cpu},
}
"""Where tasks show images."""


def agents_for(*, images: bool) -> dict[str, Sizes]:
    """Agents and their sizes, for tasks that show images or vectors."""
    return VISION_AGENTS if images else AGENTS


def agent_configs(agent: str, size: str, *, images: bool = False) -> Configs:
    """An agent and how it is trained, by name and size, on vectors or on images."""
    known = agents_for(images=images)
    if agent not in AGENTS:
        raise ConfigError(f"unknown agent {agent!r}" + suggest(agent, list(AGENTS)))
    if agent not in known:
        raise ConfigError(
            f"agent {agent!r} reads vectors, but this task shows images" + suggest(agent, list(known))
        )
    if size not in known[agent]:
        raise ConfigError(f"unknown size {size!r} of agent {agent!r}" + suggest(size, list(known[agent])))
    return known[agent][size]()
