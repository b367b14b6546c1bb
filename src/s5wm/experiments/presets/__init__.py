"""Named experiments: a task, an agent and a size by name, each a plain value."""

from collections.abc import Sequence
from dataclasses import replace

from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import Experiment, PresetName
from s5wm.experiments.presets.few_steps import FEW_STEPS, with_few_steps
from s5wm.experiments.presets.generic import for_generic_task
from s5wm.experiments.presets.sizes import AGENTS as AGENTS
from s5wm.experiments.presets.sizes import agent_configs as agent_configs
from s5wm.experiments.presets.sizes import agents_for
from s5wm.experiments.tasks import TASKS as TASKS
from s5wm.experiments.tasks import TaskConfig, is_known
from s5wm.experiments.tasks import task_config as task_config
from s5wm.training.config import UNLIMITED

# Environment steps where a task needs fewer than the agent's preset allows.
BUDGETS = {
    "race/figure-8-state": 6_000_000,
    "race/figure-8": 4_400_000,
    "hover": 2_000_000,
    "toy/double-integrator": 500_000,
    "toy/memory": 500_000,
}


def preset(
    task: str,
    agent: str = "s5wm",
    size: str = "cpu",
    *,
    seed: int = 0,
    env_args: Sequence[str] = (),
    privileged: Sequence[str] = (),
) -> Experiment:
    """The experiment of these names; the task may be any SPEC of ``tasks``.

    ``env_args`` (``NAME=VALUE``) and ``privileged`` (keys of its observation) are those of ``task_config``.
    """
    configuration = task_config(task, env_args, privileged)
    spec = configuration.build().spec
    learner, train = agent_configs(agent, size, images=spec.has_images)
    name = PresetName(task=task, agent=agent, size=size)
    configuration = configuration.as_trained(imagines=isinstance(learner, DreamerConfig), size=size)
    if not is_known(configuration):
        # The training form may show more than the form that was named.
        learner, train = for_generic_task(learner, train, size, configuration.build().spec)
    elif task in FEW_STEPS and size == "cpu" and isinstance(learner, DreamerConfig):
        configuration, learner, train = with_few_steps(configuration, learner, train, FEW_STEPS[task])
    train = replace(train, env_steps=min(train.env_steps, BUDGETS.get(task, train.env_steps)))
    try:
        return Experiment(name=name, task=configuration, agent=learner, train=train, seed=seed)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def with_budget(experiment: Experiment, *, env_steps: int | None, minutes: float | None) -> Experiment:
    """The same with another budget; minutes alone lift the limit on steps, and steps alone that on minutes."""
    train = experiment.train
    if env_steps is None and minutes is not None:
        env_steps = UNLIMITED
    values = {
        "env_steps": env_steps or train.env_steps,
        "minutes": train.minutes if minutes is None and env_steps is None else minutes,
    }
    for name, value in (("env-steps", env_steps), ("minutes", minutes)):
        if value is not None and not value > 0:
            raise ConfigError(f"--{name} is {value}; it must be positive")
    return replace(experiment, train=replace(train, **values))


def presets() -> Sequence[tuple[str, str, str]]:
    """Every (task, agent, size)."""
    known = {task: agents_for(images=shows_images(config())) for task, config in TASKS.items()}
    return [
        (task, agent, size) for task, agents in known.items() for agent in agents for size in agents[agent]
    ]


def shows_images(task: TaskConfig) -> bool:
    """Whether agents see images of it rather than vectors."""
    return task.build().spec.has_images
