"""``s5wm imagine``: how well the world model of a run foresees held-out flights of its own policy."""

import functools as ft
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from s5wm.acting import find, is_run
from s5wm.agents.base import AbstractPolicy
from s5wm.agents.dreamer import Dreamer, DreamerConfig
from s5wm.agents.replay import Entry
from s5wm.codec import Warn
from s5wm.diagnose.diagnosis import Diagnosis, report
from s5wm.diagnose.dreams import DREAM, make_dreams, pixel_errors
from s5wm.diagnose.fans import error_bands, make_fans
from s5wm.diagnose.groups import RACING_A, Groups
from s5wm.dreams import save_dreams
from s5wm.envs.base import AbstractEnv
from s5wm.envs.racing.task import RacingConfig, RacingEnv
from s5wm.envs.wrappers import AutoReset
from s5wm.errors import ConfigError, RunDirectoryError
from s5wm.evaluation import longest_episode, rules_of_a_test
from s5wm.experiment import Experiment, load_experiment
from s5wm.fans import ErrorBand, save_fans
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


@dataclass(frozen=True, kw_only=True)
class Foreseer:
    """A run with a world model, restored from its newest checkpoint."""

    folder: Path
    experiment: Experiment
    agent: Dreamer
    state: TrainState[Any]
    env_steps: int
    checkpoint: str

    @classmethod
    def load(cls, run: str | Path, say: Warn) -> "Foreseer":
        """From a run directory; refuses runs without a world model or without a checkpoint."""
        folder = find(run)
        experiment = load_experiment(folder / "config.json", warn=say)
        agent = _dreamer(experiment, run)
        state, host, checkpoint = _restore(experiment, folder, say)
        return cls(
            folder=folder,
            experiment=experiment,
            agent=agent,
            state=state,
            env_steps=host["env_steps"],
            checkpoint=checkpoint.name,
        )

    @property
    def policy(self) -> AbstractPolicy[Any, Entry[Any]]:
        """Of the checkpoint, which need not be the best one."""
        return self.agent.policy(self.state.learner)

    def check(self, horizon: int, episodes: int) -> int:
        """Rows of one flight, or a ``ConfigError`` where so many steps cannot be foreseen in it."""
        length = longest_episode(rules_of_a_test(self.experiment.task))
        if not 1 <= horizon < length or episodes < 1:
            raise ConfigError(
                f"horizon is {horizon} and episodes {episodes}; an episode of this task has at most {length} steps: "
                f"choose a horizon in [1, {length - 1}] and at least 1 episode"
            )
        return length + 1

    def dream(self, rows: Transition[Entry[Any]], horizon: int, key: Key) -> ErrorBand | None:
        """Save film strips of a task with a camera; the difference of dreamed and real pixels."""
        env = tested(self.experiment)
        if not isinstance(env, RacingEnv) or not env.spec.has_images:
            return None
        dreams = make_dreams(self.state.learner.params.world_model, env, rows, horizon=horizon, key=key)
        if not dreams:
            return None
        save_dreams(self.folder / DREAM, dreams)
        return pixel_errors(dreams)

    def report(self, rows: Transition[Entry[Any]], horizon: int, key: Key) -> Diagnosis:
        """The world model on flights whose entries are its own."""
        return report(
            self.agent,
            self.state.learner,
            rows,
            horizon,
            key,
            smoothing_weight=self.state.smoothing_weight,
            groups=_groups(self.experiment),
        )


def imagine_run(
    run: str | Path, horizon: int = 50, episodes: int = 20, *, seed: int = SEED, say: Warn = lambda _: None
) -> dict[str, Any]:
    """Measure the newest checkpoint of a run; figures that JSON can hold.

    ``episodes`` copies of the evaluation form of the task are flown with the policy's mode for as long as one
    episode may last, so that a policy that crashes early begins again.  ``error`` has ``median``, ``lo`` (5 %)
    and ``hi`` (95 %) of each state group and of the reward, step ``h`` in place ``h - 1``, null where no flight
    lasted; ``reward`` their agreement, ``metrics`` the rest (``Diagnosis.metrics``).  The fans of imagined
    positions go to ``plots/imagination.npz`` of the run, film strips of a task with a camera to ``plots/dream.npz``; a
    model that decodes images has the error of its pixels alone.
    """
    own = Foreseer.load(run, say)
    length = own.check(horizon, episodes)
    k_fly, k_report, k_fans = jr.split(jr.key(seed), 3)
    env = AutoReset(tested(own.experiment))
    rows = fly_streams(env, own.policy, episodes=episodes, length=length, key=k_fly)
    model, fans = own.state.learner.params.world_model, None
    seen = own.dream(rows, horizon, k_fans)
    if model.config.target == "observation" and seen is not None:
        measured: dict[str, Any] = {"error": {"image": band_figures(seen)}, "metrics": {}}
    else:
        found = own.report(rows, horizon, k_report)
        measured = figures(found)
        fans = make_fans(model, rows, found, dt=env.spec.ctrl_dt, key=k_fans)
    if fans is not None:
        save_fans(own.folder / FANS, fans)
    return plain(
        {
            "checkpoint": own.checkpoint,
            "env_steps": own.env_steps,
            "horizon": horizon,
            "ctrl_dt": env.spec.ctrl_dt,
            **sizes(rows),
            "seed": seed,
            "fans": None if fans is None else str(FANS),
            "dream": None if seen is None else str(DREAM),
            **measured,
            **provenance(),
        }
    )


def sizes(rows: Transition[Any]) -> dict[str, int]:
    """How much was flown."""
    return {"episodes": int(rows.timestep.is_first.sum()), "steps": int(rows.timestep.is_first.size)}


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
        "error": {name: band_figures(band) for name, band in bands.items()},
        "reward": {
            name: {k: _floats(getattr(found, k)) for k in ("real", "predicted", "correlation", "r2")}
            for name, found in agreements.items()
        },
        "samples": [int(count) for count in np.asarray(reward.step.count)],
        "metrics": {name: float(value) for name, value in jax.device_get(found.metrics()).items()},
    }


def band_figures(band: ErrorBand) -> dict[str, Any]:
    """One curve with its band."""
    return {"unit": band.unit} | {k: _floats(getattr(band, k)) for k in ("median", "lo", "hi")}


def _floats(values: Any) -> list[float]:
    return [float(value) for value in np.asarray(values)]


def _dreamer(experiment: Experiment, run: str | Path) -> Dreamer:
    if not isinstance(experiment.agent, DreamerConfig):
        raise ConfigError(
            f"{run} was trained without a world model; imagine needs a run of s5wm or dreamerv3"
        )
    return experiment.agent.build(experiment.build_env().spec, num_envs=experiment.train.num_envs)


def tested(experiment: Experiment) -> AbstractEnv[Any]:
    """The environment under the rules of a test."""
    return rules_of_a_test(experiment.task).build()


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
