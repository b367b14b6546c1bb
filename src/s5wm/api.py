"""What ``import s5wm`` offers: train, load, make."""

import datetime
import multiprocessing
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from s5wm.errors import Stopped

# The functions import what they need when they are called: `import s5wm` stays light.
if TYPE_CHECKING:
    import s5wm.envs.base
    import s5wm.experiments.trained


@dataclass(frozen=True)
class Run:
    """A run directory."""

    path: Path

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Rows of ``metrics.jsonl``."""
        from s5wm.runs.directory import RunDirectory
        from s5wm.runs.log import read_rows

        return read_rows(RunDirectory(self.path).metrics)

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """``eval.json``, once there is one."""
        from s5wm.runs.files import read_json

        path = self.path / "eval.json"
        return read_json(path) if path.is_file() else None


def fresh_path(task: str, agent: str, size: str, seed: int) -> Path:
    """A directory for a run that names none."""
    now = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    name = re.sub(r"[^\w.-]+", "-", task)
    return Path("runs") / f"{name}_{agent}_{size}_s{seed}_{now}"


def train(  # noqa: PLR0913 - keywords, the same as those of the command line
    task: str | Callable[..., Any],
    *,
    agent: str = "s5wm",
    size: str = "cpu",
    seed: int = 0,
    run: str | Path | None = None,
    env_steps: int | None = None,
    minutes: float | None = None,
    devices: int = 1,
    start_from: Run | str | Path | None = None,
    trackers: Sequence[str] = (),
    overrides: Sequence[str] = (),
    env_args: Sequence[str] = (),
    privileged: Sequence[str] = (),
) -> Run:
    """Train an agent, evaluate it, and give the run; on an existing ``run`` it goes on where that stopped.

    ``task`` is a SPEC of ``s5wm train``, or a function of a module that returns an environment.
    ``start_from`` names a run or a shipped policy of the same architecture whose parameters a new run begins with;
    optimiser, replay and schedules are fresh.  ``trackers`` of "wandb" and "trackio" get every row of metrics.
    ``overrides`` are ``"path.to.field=value"`` strings on
    ``s5wm.experiments.experiment.Experiment``.  ``env_args`` (``"name=value"``) are given to the environment of a SPEC;
    ``privileged`` are keys of its ``Dict`` observation for agents ``s5wm-p`` and the like.

    Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 finish the chunk and save; then it raises ``s5wm.Stopped``, which
    ends the script.
    """
    from s5wm.distributed.processes import is_main_process
    from s5wm.experiments.configure import configure
    from s5wm.experiments.policies import evaluate_training
    from s5wm.experiments.run import How, run_experiment

    _check_main()
    task = _spec(task)
    experiment = configure(
        task,
        agent,
        size,
        seed=seed,
        budget=(env_steps, minutes),
        overrides=overrides,
        env_args=env_args,
        privileged=privileged,
    )
    path = Path(run) if run is not None else fresh_path(task, agent, size, seed)
    how = How(devices=devices, source=_named(start_from), trackers=tuple(trackers))
    if not run_experiment(experiment, path, how):
        raise Stopped(path)
    if is_main_process():
        evaluate_training(path)
    return Run(path)


def train_seeds(  # noqa: PLR0913 - keywords, the same as those of the command line
    task: str,
    *,
    count: int,
    agent: str = "s5wm",
    size: str = "cpu",
    seed: int = 0,
    run: str | Path | None = None,
    env_steps: int | None = None,
    minutes: float | None = None,
    start_from: Run | str | Path | None = None,
    overrides: Sequence[str] = (),
) -> list[Run]:
    """``train`` for the seeds ``seed`` to ``seed + count - 1`` in one program; a run for each, in ``run``."""
    from s5wm.experiments.configure import configure
    from s5wm.experiments.policies import evaluate_training
    from s5wm.experiments.run import How, run_seeds

    _check_main()
    experiment = configure(task, agent, size, seed=seed, budget=(env_steps, minutes), overrides=overrides)
    path = Path(run) if run is not None else fresh_path(task, agent, size, seed)
    finished, paths = run_seeds(experiment, path, count=count, how=How(source=_named(start_from)))
    if not finished:
        raise Stopped(path)
    for each in paths:
        evaluate_training(each)
    return [Run(each) for each in paths]


def _check_main() -> None:
    """Raise ``ConfigError`` in a process for an environment that imports the script that trains."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        from s5wm.errors import ConfigError

        raise ConfigError(
            "s5wm.train is called while a process for an environment imports this script (task.processes): put the "
            "call under if __name__ == '__main__':"
        )


def _spec(task: str | Callable[..., Any]) -> str:
    """A function by the name under which it is found again when its run is loaded."""
    if isinstance(task, str):
        return task
    module, name = getattr(task, "__module__", ""), getattr(task, "__qualname__", "")
    if module in ("", "__main__") or not name.isidentifier():
        from s5wm.errors import ConfigError

        raise ConfigError(
            f"{task!r} cannot be found again when its run is loaded: define it at the top of another file, such as "
            "my_env.py, and import it from there (from my_env import MyEnv)"
        )
    return f"{module}:{name}"


def _named(run: Run | str | Path | None) -> str | None:
    return None if run is None else str(run.path if isinstance(run, Run) else run)


def load(
    run: Run | str | Path, *, which: Literal["best", "latest"] = "best"
) -> "s5wm.experiments.trained.TrainedAgent":
    """A trained agent: of a run, its directory, or a shipped policy such as ``"pretrained/split-s"``."""
    from s5wm.experiments.run import to_stderr
    from s5wm.experiments.trained import load_agent

    return load_agent(run.path if isinstance(run, Run) else run, which=which, warn=to_stderr)


def make(task: Run | str | Path, *, evaluation: bool = False) -> "s5wm.envs.base.AbstractEnv[Any]":
    """A task as a stream of episodes in pure JAX: ``reset(key)`` and ``step(state, action, key)`` of one environment.

    Named by the task, or by a run or a shipped policy: then it is the task that this was trained on, whose
    observations its policy reads.  A race begins anywhere on its track, and varies where ``task.variation`` says so,
    as it is trained on; with ``evaluation`` it begins at its start pose and varies in nothing, as it is judged.
    """
    from s5wm.distributed.switches import check_settings
    from s5wm.envs.host import HostEnv
    from s5wm.envs.wrappers import AutoReset
    from s5wm.errors import ConfigError
    from s5wm.experiments.tasks import TASKS, task_config

    check_settings(only="jax_enable_x64")
    is_policy = isinstance(task, Run | Path) or task.startswith("pretrained/") or Path(task).is_dir()
    config = load(task).experiment.task if is_policy and task not in TASKS else task_config(str(task))
    env: Any = config.eval_config().build() if evaluation else config.training_env()
    if isinstance(env, HostEnv):
        raise ConfigError(
            f"{task} is stepped by the host, in Python, and make gives environments in JAX: {_made_by(config)}"
        )
    return AutoReset(env)


def _made_by(task: Any) -> str:
    """How the user makes the Gymnasium environment of a task."""
    from s5wm.envs.adapters.tasks import GymnasiumConfig

    given = ", ".join(task.args)
    if isinstance(task, GymnasiumConfig):
        return f"call gymnasium.make({', '.join([repr(task.id), *task.args])})"
    module, _, name = task.factory.partition(":")
    return f"import {module}, and call {module}.{name}({given})"
