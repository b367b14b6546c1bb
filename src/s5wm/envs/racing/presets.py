"""Default training forms of the race."""

from dataclasses import replace
from typing import Any, TypeAlias

Race: TypeAlias = Any
"""A ``RacingConfig``, whose module imports this one."""


def easier_task(race: Race) -> Race:
    """The training form of the race for small world models; its evaluation does not change.

    A crash costs two metres of progress, a pass has no bonus, and gates begin twice as wide and have their true size
    after 8000 steps of each environment.  PPO needs none of this, and learns less with it (docs/lab-notes.md, 6).
    With a camera, gates narrow over 48 000 steps, while the estimates become sharper, and an episode without progress
    ends after 1.5 s.
    """
    reward = replace(race.reward, gate_pass=0.0, crash=2.0, crash_speed=0.0)
    race = replace(race, reward=reward, opening_initial=2.0, curriculum_steps=8000)
    return race if race.camera is None else replace(race, curriculum_steps=48_000, stall_seconds=1.5)


def for_agent(race: Race, *, imagines: bool, size: str) -> Race:
    """The training form of the race for an agent."""
    if imagines:
        return easier_task(race) if size == "cpu" else race
    # In body axes all gates are alike: in world axes PPO's mode meets rims where its samples pass.
    return race if race.camera is not None else replace(race, observation="C")
