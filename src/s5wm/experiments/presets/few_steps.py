"""A race from states, learned by world models of size ``cpu`` in few environment steps (docs/lab-notes.md, 13)."""

from dataclasses import dataclass, replace
from typing import Any

from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.experiments.tasks import TaskConfig
from s5wm.training.config import TrainConfig
from s5wm.training.curriculum import CurriculumConfig
from s5wm.worldmodel.config import RewardMixtureConfig


@dataclass(frozen=True, kw_only=True)
class FewSteps:
    """What differs between the races."""

    env_steps: int  # the budget
    curriculum_steps: int  # of each environment, until gates are as narrow as they become
    imagination_horizon: int
    num_imagination_starts: int


FEW_STEPS = {
    "race/split-s": FewSteps(
        env_steps=800_000, curriculum_steps=15_000, imagination_horizon=20, num_imagination_starts=32
    ),
    "race/figure-8-state": FewSteps(
        env_steps=600_000, curriculum_steps=6_000, imagination_horizon=15, num_imagination_starts=42
    ),
}
"""Races whose world models of size cpu learn from few steps; the others replay less, and fly more."""


# A crash costs 2, and a step at 20 m/s brings a progress of 0.4 m; smoothing only costs.
REWARDS = RewardMixtureConfig(sizes=(0.02, 0.3, 2.0), bounds=(-3.0, 0.5), smoothing_bounds=(-3.0, 0.0))


def with_few_steps(
    race: TaskConfig, agent: DreamerConfig, train: TrainConfig, few: FewSteps
) -> tuple[TaskConfig, DreamerConfig, TrainConfig]:
    """Every time step is replayed 64 times, flights are imagined for longer, and an average of parameters acts.

    Each imagined action answers for its own return, rewards are a mixture of normals and the value is a number: the
    policy learns from their slopes, which bins blur.

    The observation is in body axes, in which all gates are alike.  Gates narrow slowly, to less than their true size,
    so that a policy keeps a margin at the true ones.
    """
    changed: Any = race  # a RacingConfig: TASKS holds what a task's name stands for
    changed = replace(changed, observation="C", opening_final=0.85, curriculum_steps=few.curriculum_steps)
    agent = replace(
        agent,
        world_model=replace(agent.world_model, prior_products=True, reward_layers=2, reward_mixture=REWARDS),
        critic=replace(agent.critic, bins=None, products=True),
        actor=replace(agent.actor, std_min=0.02),
        actor_critic=replace(
            agent.actor_critic,
            imagination_horizon=few.imagination_horizon,
            num_imagination_starts=few.num_imagination_starts,
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
        env_steps=few.env_steps,
        eval_every=20_000,
        checkpoint_every=100_000,
        decay_from=0.45,
        # Never without mastery: amid learning, the smoothing reward makes drones crash again.
        curriculum=CurriculumConfig(fallback=2.0),
    )
    return changed, agent, train
