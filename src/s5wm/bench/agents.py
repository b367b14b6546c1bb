"""Agents by name, those with a world model with the batch that a timing asks for."""

from collections.abc import Sequence
from dataclasses import replace

from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import AgentConfig
from s5wm.experiments.presets import preset, shows_images, task_config
from s5wm.experiments.presets.sizes import agents_for


def dreamer_configs(
    names: Sequence[str],
    size: str,
    task: str,
    *,
    batch: int | None = None,
    length: int | None = None,
) -> dict[str, DreamerConfig]:
    """Presets of one size for a task; the replay is just large enough for windows of ``length`` steps."""
    return {name: _resized(_known(name, size, task), batch, length) for name in names}


def policy_configs(names: Sequence[str], size: str, task: str) -> dict[str, AgentConfig]:
    """Presets of any agents for a task; what has a replay has a small one, since it only acts."""
    known = {name: preset(task, name, size).agent for name in names}
    return {
        name: _resized(config, None, None) if isinstance(config, DreamerConfig) else config
        for name, config in known.items()
    }


def _known(name: str, size: str, task: str) -> DreamerConfig:
    config = preset(task, name, size).agent
    if not isinstance(config, DreamerConfig):
        sizes = agents_for(images=shows_images(task_config(task)))
        known = [agent for agent in sizes if isinstance(sizes[agent]["cpu"]()[0], DreamerConfig)]
        raise ConfigError(f"agent {name!r} has no world model to time; choose of {', '.join(known)}")
    return config


def _resized(config: DreamerConfig, batch: int | None, length: int | None) -> DreamerConfig:
    replay, starts = config.replay, config.actor_critic.num_imagination_starts
    try:
        rows = length or replay.length
        replay = replace(replay, batch=batch or replay.batch, length=rows, capacity=4 * (rows + 1))
        starts = None if starts is None else min(starts, replay.batch * replay.length)
        actor_critic = replace(config.actor_critic, num_imagination_starts=starts)
        return replace(config, replay=replay, actor_critic=actor_critic, actor_critic_warmup=0)
    except ValueError as error:
        raise ConfigError(str(error)) from error
