"""Subject of a page: a policy, its world model and its critic."""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array, Float

from s5wm.agents.base import AbstractPolicy
from s5wm.agents.dreamer.agent import DreamerConfig, DreamerLearner
from s5wm.agents.dreamer.heads import Critic
from s5wm.agents.ppo.agent import PPOConfig, PPOLearner
from s5wm.diagnostics.forecast import beliefs_of
from s5wm.diagnostics.loaded import LoadedRun, policy_model
from s5wm.experiments.experiment import Experiment
from s5wm.experiments.trained import Which, find, load_agent
from s5wm.runs.checkpoint import restore
from s5wm.runs.codec import Warn
from s5wm.training.run import abstract_state
from s5wm.types import TimeStep, array_of
from s5wm.worldmodel.model import WorldModel

Values = Callable[[TimeStep, Float[Array, "T A"]], Float[Array, " T"]]
"""Values of the time steps of an episode, from these and its actions, each with a leading ``T``."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained policy with its world model, as far as it is stored."""

    name: str  # agent and size, or the folder where they are unknown
    facts: str  # which policy of which run
    experiment: Experiment
    policy: AbstractPolicy[Any, Any]
    model: WorldModel[Any] | None  # None: nothing can be predicted
    has_heads: bool  # whether the model predicts rewards, too
    values: Values | None
    smoothing_weight: float  # of the reward's second component in what the values are of
    note: str  # what is not imagined, and why; empty where everything is


def load_subject(run: str | Path, *, which: Which, warn: Warn) -> Subject:
    """From a run or a shipped policy; ``which`` of a run's policies.

    The newest checkpoint holds all heads and the critic; the best and a shipped policy hold what acting needs: encoder,
    dynamics and actor, which predict states where the latent is the state.
    """
    folder = find(run)
    agent = load_agent(folder, which=which, warn=warn)
    name = agent.experiment.name
    is_latest = agent.kind == "latest"
    loaded = (
        _latest(agent.experiment, agent.source, warn)
        if is_latest
        else _policy_only(agent.experiment, agent.policy, of_run=agent.kind != "shipped")
    )
    steps = agent.env_steps
    trained = "" if steps is None else f" after {steps:,} environment steps"
    return Subject(
        name=" ".join(word for word in (name.agent, name.size) if word) or folder.name,
        facts=f"{agent.kind} policy of {run}{trained}",
        experiment=agent.experiment,
        policy=loaded.policy or agent.policy,
        model=loaded.model,
        has_heads=is_latest and loaded.model is not None,
        values=loaded.values,
        smoothing_weight=loaded.smoothing_weight,
        note=loaded.note,
    )


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    policy: AbstractPolicy[Any, Any] | None = None
    model: WorldModel[Any] | None = None
    values: Values | None = None
    smoothing_weight: float = 0.0
    note: str = ""


MODEL_FREE = "the agent has no world model, so nothing is imagined"


def _latest(experiment: Experiment, checkpoint: Path, warn: Warn) -> _Loaded:
    """Of the checkpoint that the policy is of: a training may have saved another since."""
    if isinstance(experiment.agent, DreamerConfig):
        own = LoadedRun.load(checkpoint.parent.parent, warn, checkpoint)
        assert own.state is not None, "a run has a training state"
        return _Loaded(
            policy=own.policy,
            model=own.model,
            values=_dreamer_values(own.state.learner),
            smoothing_weight=float(own.state.smoothing_weight),
        )
    template = abstract_state(experiment.build(), experiment.train, experiment.seed)
    state, _ = restore(checkpoint, template)
    return _Loaded(
        values=_ppo_values(experiment.agent, state.learner),
        smoothing_weight=float(state.smoothing_weight),
        note=MODEL_FREE,
    )


def _policy_only(experiment: Experiment, policy: AbstractPolicy[Any, Any], *, of_run: bool) -> _Loaded:
    if not isinstance(experiment.agent, DreamerConfig):
        return _Loaded(note=MODEL_FREE)
    agent = experiment.agent.build(experiment.build_env().spec, num_envs=experiment.train.num_envs)
    model = policy_model(agent, policy)
    if model is None:
        return _Loaded(
            note="this policy is stored without the decoder of its world model; name a run, with --policy latest"
        )
    more = "; --policy latest shows both" if of_run else ""
    return _Loaded(model=model, note=f"this policy is stored without reward head and critic{more}")


def _dreamer_values(learner: DreamerLearner) -> Values:
    """By the beliefs of the model that the critic learned with."""
    return ft.partial(_values_of_beliefs, learner.params.world_model, learner.params.critic)


@jax.jit
def _values_of_beliefs(
    model: WorldModel[Any], critic: Critic, timestep: TimeStep, action: Float[Array, "T A"]
) -> Float[Array, " T"]:
    return critic(beliefs_of(model, timestep, action).latent.feature).mean()


def _ppo_values(config: PPOConfig, learner: PPOLearner) -> Values:
    moments, critic = learner.critic_moments, learner.params.critic

    @jax.jit
    def values(timestep: TimeStep, action: Float[Array, "T A"]) -> Float[Array, " T"]:
        del action
        read = timestep.state if config.critic_inputs == "privileged" else array_of(timestep.obs)
        return jax.vmap(critic)(moments.normalise(read))[..., 0]

    return values
