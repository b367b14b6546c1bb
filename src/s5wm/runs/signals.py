"""Titles of the metrics of a training, in the order and the groups of the pictures."""

from collections.abc import Iterable

GROUPS: dict[str, dict[str, str]] = {
    "World model": {
        "loss/dyn": "dynamics loss (KL)",
        "loss/rep": "representation loss (KL)",
        "loss/decoder": "reconstruction loss",
        "loss/reward_nominal": "reward loss",
        "loss/reward_smoothing": "reward loss, smoothing",
        "loss/cont": "continuation loss",
        "latent/kl": "KL of posterior and prior",
        "latent/posterior_entropy": "entropy of the posterior",
        "latent/prior_entropy": "entropy of the prior",
        "gradient/world_model": "gradient norm, world model",
    },
    "Actor": {
        "loss/actor": "actor loss",
        "loss/policy": "policy loss",
        "actor/entropy": "entropy of actions",
        "policy/entropy": "entropy of actions",
        "actor/std": "standard deviation of actions",
        "advantage/abs": "mean size of advantages",
        "advantage/std": "spread of advantages",
        "policy/kl": "KL to the policy that collected",
        "policy/clipped": "share of clipped ratios",
        "gradient/actor": "gradient norm, actor",
    },
    "Critic": {
        "loss/critic": "critic loss, imagined",
        "loss/replay_critic": "critic loss, replayed",
        "loss/value": "value loss",
        "value/explained": "explained variance of values",
        "return/imagined": "return, imagined",
        "return/replayed": "return, replayed",
        "return/scale": "scale of returns",
        "gradient/critic": "gradient norm, critic",
    },
    "Schedules and health": {
        "smoothing_weight": "weight of the smoothing reward",
        "learning_rate": "learning rate",
        "health/rate": "factor of learning rates",
        "health/skipped": "skipped gradient steps",
    },
}

OTHER = "Other"

_WORDS = {name: words for group in GROUPS.values() for name, words in group.items()}


SMOOTHING = "loss/reward_smoothing"
"""Logged where there is a second reward."""

ROUNDING = 1e-5

_GENERAL = ("count", "length", "return_nominal", "return_smoothing", "success")


def words_for(name: str) -> str:
    """Title of a metric; its name in the log if it is unknown."""
    return _WORDS.get(name, name)


def is_rounding(name: str, value: int | float) -> bool:
    """Whether this is the reconstruction loss of a latent that is the observation itself: nothing is learned of it."""
    return name == "loss/decoder" and abs(value) < ROUNDING


def own_metrics(logged: Iterable[str]) -> list[str]:
    """Names, without their group, of what the environment itself measures of its episodes."""
    names = [name.split("/", 1)[1] for name in logged if name.startswith(("episode/", "eval/"))]
    return [name for name in dict.fromkeys(names) if name not in _GENERAL]


def by_group(names: Iterable[str]) -> dict[str, list[str]]:
    """Sort names into groups, each in its order; unknown ones come last."""
    given = list(names)
    groups = {title: [name for name in group if name in given] for title, group in GROUPS.items()}
    groups[OTHER] = [name for name in given if name not in _WORDS]
    return {title: group for title, group in groups.items() if group}
