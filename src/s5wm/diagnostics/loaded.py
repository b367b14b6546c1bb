"""World models outside of training: of a run's newest checkpoint, or as much of one as a shipped policy holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float

from s5wm.agents.base import AbstractPolicy
from s5wm.agents.dreamer.agent import Dreamer, DreamerConfig
from s5wm.agents.dreamer.policy import DreamerPolicy
from s5wm.agents.dreamer.stored import StoredLatent
from s5wm.diagnostics.diagnosis import Diagnosis, GroupErrors, open_loop_errors, report
from s5wm.diagnostics.positions import positions_of
from s5wm.envs.base import AbstractEnv
from s5wm.envs.groups import Groups, number_groups
from s5wm.errors import ConfigError, RunDirectoryError
from s5wm.experiments.experiment import Experiment, load_runnable
from s5wm.experiments.trained import find, is_run, load_agent
from s5wm.runs.checkpoint import Checkpoints, restore
from s5wm.runs.codec import Warn
from s5wm.runs.directory import RunDirectory
from s5wm.training.run import abstract_state
from s5wm.training.state import TrainState
from s5wm.types import Key, Transition
from s5wm.worldmodel.model import WorldModel


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """A world model and the policy that collects for it, which with ``ema_rate`` is an average of its parameters.

    A shipped policy has no training state (None): its model foresees states, and neither rewards nor crashes.
    """

    folder: Path
    experiment: Experiment
    agent: Dreamer
    policy: AbstractPolicy[
        Any, StoredLatent[Any]
    ]  # of a run's newest checkpoint, which need not be the best one
    model: WorldModel[Any]
    state: TrainState[Any] | None
    env_steps: int | None
    checkpoint: str

    @classmethod
    def load(cls, run: str | Path, warn: Warn, checkpoint: Path | None = None) -> "LoadedRun":
        """Load from a run (its newest checkpoint, or this one) or a shipped policy.

        Raises ``ConfigError`` if its files hold no world model.
        """
        folder = find(run)
        experiment = load_runnable(folder, warn=warn)
        agent = _dreamer(experiment, run)
        if not is_run(folder):
            return _shipped(folder, experiment, agent, warn)
        checkpoint = checkpoint or _newest(folder, warn)
        template = abstract_state(experiment.build(), experiment.train, experiment.seed)
        state, host = restore(checkpoint, template)
        return cls(
            folder=folder,
            experiment=experiment,
            agent=agent,
            policy=agent.policy(state.learner),
            model=state.learner.params.world_model,
            state=state,
            env_steps=host["env_steps"],
            checkpoint=checkpoint.name,
        )

    @property
    def about(self) -> dict[str, Any]:
        """Description of policy and world model."""
        return {"policy": "latest" if self.state is not None else "shipped", "env_steps": self.env_steps}

    def check(self, horizon: int, episodes: int) -> int:
        """Time steps of one flight; raises ``ConfigError`` if it is too short for the horizon."""
        length = self.experiment.task.eval_config().max_steps
        if not 1 <= horizon < length or episodes < 1:
            raise ConfigError(
                f"horizon is {horizon} and episodes {episodes}; an episode of this task has at most {length} steps: "
                f"choose a horizon in [1, {length - 1}] and at least 1 episode"
            )
        return length + 1

    def positions(self, state: Float[np.ndarray, "*b Y"]) -> Float[np.ndarray, "*b 3"] | None:
        """Positions (m) of the drone in states that the model decodes; None where they hold none."""
        return positions_of(self.experiment.task, state, self.model.config.target)

    def errors(self, transitions: Transition[StoredLatent[Any]], horizon: int, key: Key) -> GroupErrors:
        """Open-loop errors of the state alone, equal to those of ``report``."""
        groups = state_groups(self.experiment)
        return open_loop_errors(self.model, transitions, horizon, key, groups=groups)

    def report(self, transitions: Transition[StoredLatent[Any]], horizon: int, key: Key) -> Diagnosis:
        """The whole report, on flights whose latents are this model's own; needs the training state."""
        assert self.state is not None, "a shipped policy has no heads to report of"
        return report(
            self.agent,
            self.state.learner,
            transitions,
            horizon,
            key,
            smoothing_weight=self.state.smoothing_weight,
            groups=state_groups(self.experiment),
        )


def tested(experiment: Experiment) -> AbstractEnv[Any]:
    """The evaluation environment."""
    return experiment.task.eval_config().build()


def _shipped(folder: Path, experiment: Experiment, agent: Dreamer, warn: Warn) -> LoadedRun:
    """The shipped encoder and dynamics in a world model whose other heads are zero, and which nothing reads."""
    trained = load_agent(folder, which="latest", warn=warn)
    model = policy_model(agent, trained.policy)
    if model is None:
        raise RunDirectoryError(
            f"{folder} is a single policy without the decoder of its world model, so nothing can be said of what that "
            "foresees; name the run that it was shipped from"
        )
    return LoadedRun(
        folder=folder,
        experiment=experiment,
        agent=agent,
        policy=trained.policy,
        model=model,
        state=None,
        env_steps=trained.env_steps,
        checkpoint=folder.name,
    )


def policy_model(agent: Dreamer, policy: AbstractPolicy[Any, Any]) -> WorldModel[Any] | None:
    """A world model that predicts states, of a policy alone: its heads for rewards and ends are zero.

    None where the state has to be decoded, because a policy holds no decoder.
    """
    shapes = jax.eval_shape(lambda: agent.init(jr.key(0)).params.world_model)
    if jax.tree.leaves(shapes.decoder):
        return None
    assert isinstance(policy, DreamerPolicy), "only world models predict"
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return eqx.tree_at(lambda m: (m.encoder, m.dynamics), blank, (policy.encoder, policy.dynamics))


def _dreamer(experiment: Experiment, run: str | Path) -> Dreamer:
    if not isinstance(experiment.agent, DreamerConfig):
        raise ConfigError(
            f"{run} was trained without a world model; imagine needs a run of s5wm or dreamerv3"
        )
    return experiment.agent.build(experiment.build_env().spec, num_envs=experiment.train.num_envs)


def state_groups(experiment: Experiment) -> Groups | None:
    """Of the vector that a world model decodes: the task's, or one for each number that the environment names."""
    assert isinstance(experiment.agent, DreamerConfig), "only world models foresee"
    target = experiment.agent.world_model.target
    groups = experiment.task.state_groups(target)
    if groups is not None or target != "observation":
        return groups
    names = tested(experiment).spec.obs_names
    return number_groups(len(names), names) if names else None


def _newest(folder: Path, warn: Warn) -> Path:
    checkpoint = Checkpoints(RunDirectory(folder).checkpoints, keep=1).newest(warn)
    if checkpoint is None:
        raise RunDirectoryError(f"{folder} has no checkpoint yet: train until the first one is saved")
    return checkpoint
