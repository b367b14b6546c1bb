"""Names of tasks, agents, sizes and shipped policies, without JAX: what ``s5wm list`` prints.

``s5wm.experiments.presets`` says what they stand for; a test holds the two together.
"""

from pathlib import Path

from s5wm.envs.racing.names import GYM_IDS as RACE_IDS
from s5wm.envs.racing.names import IMAGE_RACES, RACES

PREFIX = "pretrained/"

TASKS = (
    *RACES,
    "hover",
    "toy/double-integrator",
    "toy/memory",
)

IMAGE_TASKS = (*IMAGE_RACES,)
"""Tasks that show images; the others show vectors."""

GYM_IDS = {**RACE_IDS, "s5wm/Hover-v0": "hover"}
"""The task that each Gymnasium id stands for; rewards and rules are those that it is trained with by default."""

_ALL_SIZES = ("cpu", "1m", "12m")

STATE_AGENTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("s5wm", "s5wm-p", "dreamerv3", "dreamerv3-p"), _ALL_SIZES),
    **dict.fromkeys(("ppo", "ppo-asymmetric"), ("cpu",)),
}
"""Sizes of every agent that learns from vectors; those that learn from images are among them."""

IMAGE_AGENTS = {agent: sizes for agent, sizes in STATE_AGENTS.items() if agent != "ppo"}
"""Sizes of every agent that learns from images."""


def presets() -> list[tuple[str, str, str]]:
    """Every (task, agent, size)."""
    return [
        (task, agent, size)
        for task in TASKS
        for agent, sizes in (IMAGE_AGENTS if task in IMAGE_TASKS else STATE_AGENTS).items()
        for size in sizes
    ]


def pretrained_folder() -> Path:
    """Where shipped policies are installed."""
    return Path(__file__).parents[1] / "pretrained"


def pretrained_names() -> list[str]:
    """Names of shipped policies."""
    return sorted(PREFIX + p.parent.name for p in pretrained_folder().glob("*/policy.npz"))
