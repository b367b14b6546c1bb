"""``s5wm imagine``: how well the world model of a run foresees held-out flights of its own policy."""

import functools as ft
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from s5wm.acting import find, is_run
from s5wm.agents.base import AbstractPolicy
from s5wm.agents.dreamer import Dreamer, DreamerConfig
from s5wm.codec import Warn
from s5wm.diagnose.diagnosis import Diagnosis, report
from s5wm.diagnose.fans import error_bands, make_fans
from s5wm.diagnose.groups import RACING_A, Groups
from s5wm.envs.base import AbstractEnv
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.wrappers import AutoReset
from s5wm.errors import ConfigError, RunDirectoryError
from s5wm.evaluation import longest_episode
from s5wm.experiment import Experiment, load_experiment
from s5wm.fans import save_fans
from s5wm.provenance import provenance
from s5wm.train.checkpoint import Checkpoints, restore
from s5wm.train.directory import RunDirectory
from s5wm.train.files import plain
from s5wm.train.loop import unroll
from s5wm.train.run import abstract_state
from s5wm.train.state import TrainState, init_actor
from s5wm.types import Carry, Extras, Key, Transition

FANS = Path("plots") / "imagination.npz"
SEED = 2027  # of the held-out flights


class ModePolicy(AbstractPolicy[Carry, Extras]):
    """A policy that never samples, whatever key it is given."""

    policy: AbstractPolicy[Carry, Extras]

    def initial(self) -> Carry:
        """That of the policy."""
        return self.policy.initial()

    def __call__(
        self, carry: Carry, obs: Shaped[Array, " ..."], is_first: Bool[Array, ""], *, key: Key | None
    ) -> tuple[Carry, Float[Array, " A"], Extras]:
        """The policy's mode."""
        del key
        return self.policy(carry, obs, is_first, key=None)


def imagine_run(
    run: str | Path, horizon: int = 50, episodes: int = 20, *, seed: int = SEED, say: Warn = lambda _: None
) -> dict[str, Any]:
    """Measure the newest checkpoint of a run; figures that JSON can hold.

    ``episodes`` copies of the evaluation form of the task are flown with the policy's mode for as long as one
    episode may last, so that a policy that crashes early begins again.  ``error`` has ``median``, ``lo`` (5 %)
    and ``hi`` (95 %) of each state group and of the reward, step ``h`` in place ``h - 1``, null where no flight
    lasted; ``reward`` their agreement, ``metrics`` the rest (``Diagnosis.metrics``).  The fans of imagined
    positions go to ``plots/imagination.npz`` of the run.
    """
    folder = find(run)
    experiment = load_experiment(folder / "config.json", warn=say)
    agent = _dreamer(experiment, run)
    length = longest_episode(_judged(experiment))
    if not 1 <= horizon < length or episodes < 1:
        raise ConfigError(
            f"horizon is {horizon} and episodes {episodes}; an episode of this task has at most {length} steps: "
            f"choose a horizon in [1, {length - 1}] and at least 1 episode"
        )
    state, host, checkpoint = _restore(experiment, folder, say)
    k_fly, k_report, k_fans = jr.split(jr.key(seed), 3)
    env: AbstractEnv[Any] = AutoReset(_judged(experiment).build())
    rows = fly_streams(env, agent.policy(state.learner), episodes=episodes, length=length + 1, key=k_fly)
    groups = _groups(experiment)
    found = report(
        agent, state.learner, rows, horizon, k_report, smoothing_weight=state.smoothing_weight, groups=groups
    )
    fans = make_fans(state.learner.params.world_model, rows, found, dt=env.spec.ctrl_dt, key=k_fans)
    if fans is not None:
        save_fans(folder / FANS, fans)
    return plain(
        {
            "checkpoint": checkpoint.name,
            "env_steps": host["env_steps"],
            "horizon": horizon,
            "ctrl_dt": env.spec.ctrl_dt,
            "episodes": int(rows.timestep.is_first.sum()),
            "steps": int(rows.timestep.is_first.size),
            "seed": seed,
            "fans": None if fans is None else str(FANS),
            **figures(found),
            **provenance(),
        }
    )


@ft.partial(jax.jit, static_argnames=("episodes", "length"))
def fly_streams(
    env: AbstractEnv[Any], policy: AbstractPolicy[Any, Any], *, episodes: int, length: int, key: Key
) -> Transition[Any]:
    """Rows ``[episodes, length]`` of an environment with ``AutoReset``, flown with the policy's mode."""
    k_reset, k_fly = jr.split(key)
    steady = ModePolicy(policy)
    actor = init_actor(env, steady, episodes, key=k_reset)
    return unroll(env, steady, actor, length=length, key=k_fly)[1]


def figures(found: Diagnosis) -> dict[str, Any]:
    """Curves against the horizon, and single figures."""
    bands = error_bands(found, found.open_loop.groups)
    reward = found.reward
    agreements = {"step": reward.step, "total": reward.total}
    return {
        "error": {
            name: {"unit": band.unit} | {k: _floats(getattr(band, k)) for k in ("median", "lo", "hi")}
            for name, band in bands.items()
        },
        "reward": {
            name: {k: _floats(getattr(found, k)) for k in ("real", "predicted", "correlation", "r2")}
            for name, found in agreements.items()
        },
        "samples": [int(count) for count in np.asarray(reward.step.count)],
        "metrics": {name: float(value) for name, value in jax.device_get(found.metrics()).items()},
    }


def _floats(values: Any) -> list[float]:
    return [float(value) for value in np.asarray(values)]


def _dreamer(experiment: Experiment, run: str | Path) -> Dreamer:
    if not isinstance(experiment.agent, DreamerConfig):
        raise ConfigError(f"{run} was trained without a world model; imagine needs a run of s5wm")
    spec = experiment.build_env().spec
    if spec.has_images and experiment.agent.world_model.target == "observation":
        raise ConfigError(
            f"the world model of {run} decodes images; imagine measures positions and velocities: "
            "train s5wm-p or dreamerv3-p, which decode the privileged state"
        )
    return experiment.agent.build(spec, num_envs=experiment.train.num_envs)


def _judged(experiment: Experiment) -> Any:
    task = experiment.task
    return task.evaluation() if isinstance(task, RacingConfig) else task


def _groups(experiment: Experiment) -> Groups | None:
    task, agent = experiment.task, experiment.agent
    if not isinstance(task, RacingConfig) or not isinstance(agent, DreamerConfig):
        return None
    other = task.observation == "A" and agent.world_model.target == "observation"
    return RACING_A if other else None


def _restore(experiment: Experiment, folder: Path, say: Warn) -> tuple[TrainState[Any], dict[str, Any], Path]:
    checkpoint = Checkpoints(RunDirectory(folder).checkpoints, keep=1).newest(say) if is_run(folder) else None
    if checkpoint is None:
        raise RunDirectoryError(
            f"{folder} has no checkpoint with a world model (a shipped policy holds only what acting needs); "
            "name the directory of a run that has saved one"
        )
    template = abstract_state(experiment.build(), experiment.train, experiment.seed)
    return *restore(checkpoint, template), checkpoint
