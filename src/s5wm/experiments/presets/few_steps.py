"""A race from states, learned by world models of size ``cpu`` in few environment steps (docs/lab-notes.md, 13)."""

from dataclasses import replace
from typing import Any

from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.experiments.tasks import TaskConfig
from s5wm.training.config import TrainConfig
from s5wm.training.curriculum import CurriculumConfig
from s5wm.worldmodel.config import RewardMixtureConfig

CURRICULUM_STEPS = {"race/split-s": 15_000, "race/figure-8-state": 6_000}
"""Races whose world models of size cpu learn from few steps; the others replay less, and fly more.

Steps of each environment until gates are as narrow as they become.
"""


def with_few_steps(
    race: TaskConfig, agent: DreamerConfig, train: TrainConfig, curriculum_steps: int
) -> tuple[TaskConfig, DreamerConfig, TrainConfig]:
    """Every time step is replayed 64 times, 42 flights are imagined for 15 steps, and an average of parameters acts.

    Rewards are a mixture of normals, and the value is a number: policies learn from slopes, which bins blur.

    The observation is in body axes, in which all gates are alike.  Gates narrow slowly, to less than their true size,
    so that a policy keeps a margin at the true ones.
    """
    changed: Any = race  # a RacingConfig: TASKS holds what a task's name stands for
    changed = replace(changed, observation="C", opening_final=0.85, curriculum_steps=curriculum_steps)
    agent = replace(
        agent,
        world_model=replace(
            agent.world_model, prior_products=True, reward_layers=2, reward_mixture=RewardMixtureConfig()
        ),
        critic=replace(agent.critic, bins=None, products=True),
        actor=replace(agent.actor, std_min=0.02),
        actor_critic=replace(
            agent.actor_critic,
            imagination_horizon=15,
            num_imagination_starts=42,
            own_returns=True,
            gradient_limit=0.5,
        ),
        optimiser=replace(agent.optimiser, critic_multiplier=1.0),
        replay=replace(agent.replay, capacity=4096),
        updates_per_rollout=64,
        ema_rate=0.002,
    )
    train = replace(
        train,
        num_envs=32,
        iterations_per_chunk=8,
        env_steps=800_000,
        eval_every=20_000,
        checkpoint_every=100_000,
        decay_from=0.45,
        # Never without mastery: amid learning, the smoothing reward makes drones crash again.
        curriculum=CurriculumConfig(fallback=2.0),
    )
    return changed, agent, train
