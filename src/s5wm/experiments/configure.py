"""An experiment from names, a budget and overrides."""

from collections.abc import Sequence

from s5wm.distributed.switches import check_settings
from s5wm.experiments.experiment import Experiment
from s5wm.experiments.presets import preset, with_budget
from s5wm.runs.codec import override


def configure(  # noqa: PLR0913 - keywords, the same as those of the command line
    task: str,
    agent: str,
    size: str,
    *,
    seed: int,
    budget: tuple[int | None, float | None],
    overrides: Sequence[str],
    env_args: Sequence[str] = (),
    privileged: Sequence[str] = (),
) -> Experiment:
    """The experiment of these names with budget (env steps, minutes) and ``path=value`` overrides applied."""
    check_settings()
    env_steps, minutes = budget
    return override(
        with_budget(
            preset(task, agent, size, seed=seed, env_args=env_args, privileged=privileged),
            env_steps=env_steps,
            minutes=minutes,
        ),
        overrides,
    )
