"""Names in configuration files of schema 1: renamed and removed classes, fields and options."""

from collections.abc import Mapping
from typing import Any

from s5wm.errors import ConfigError

TAG = "type"

CLASSES = {
    "BelievedConfig": "PrivilegedStateConfig",
    "ObservedConfig": "IdentityLatentConfig",
}

FIELDS: dict[str, dict[str, str]] = {
    "ActorCriticConfig": {"starts": "num_imagination_starts", "slow_rate": "tau"},
    "DreamerConfig": {
        "behaviour_delay": "actor_critic_warmup",
        "acting_rate": "ema_rate",
        "acting_delay": "ema_start",
    },
    "WorldModelConfig": {"learned_spread": "learned_scale"},
}
"""By the present name of the class."""

REMOVED: dict[str, dict[str, Any]] = {
    "ReplayConfig": {"surprising": 0},
    "CurriculumConfig": {"laps": None},
}
"""Options that are gone, with the only value that still means what it meant."""


def updated(data: Any) -> Any:
    """An encoded configuration in the present names.

    Raises ``ConfigError`` where it uses an option that is gone.
    """
    if isinstance(data, list):
        return [updated(item) for item in data]
    if not isinstance(data, Mapping):
        return data
    kind = class_name(data.get(TAG))
    names, gone = FIELDS.get(str(kind), {}), REMOVED.get(str(kind), {})
    for name in gone.keys() & data.keys():
        if data[name] != gone[name]:
            raise ConfigError(
                f"{kind}.{name} is {data[name]!r}, an option that this version no longer has: use the version of s5wm "
                "that wrote this configuration"
            )
    kept = {names.get(name, name): updated(value) for name, value in data.items() if name not in gone}
    return kept if TAG not in data else kept | {TAG: kind}


def class_name(tag: Any) -> Any:
    """The present name of a configuration class."""
    return CLASSES.get(tag, tag) if isinstance(tag, str) else tag


def hint(kind: str, name: str) -> str:
    """``; it is called y now`` for a field or an option of before, else nothing."""
    if name in FIELDS.get(kind, {}):
        return f"; it is called {FIELDS[kind][name]} now."
    return "; this version no longer has it." if name in REMOVED.get(kind, {}) else ""
