"""Which curves a page shows of an episode, and what the world model predicted of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from s5wm.actions import ActionSpec, Box
from s5wm.diagnostics.values import realised_return
from s5wm.envs.groups import Groups
from s5wm.viewer.episode import Episode
from s5wm.viewer.futures import Futures

MOST = 24
"""Panels of an observation whose numbers have no names."""

Target = Literal["observation", "privileged"]
"""The vector that a world model decodes."""

AXES = "xyz"
RETURNS = "reward and value"


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One curve of an episode against time."""

    section: str
    title: str
    unit: str
    real: Float[np.ndarray, " T"]
    predicted: Float[np.ndarray, "M S H"] | None = None
    also: Float[np.ndarray, " T"] | None = None  # a second curve
    also_title: str = ""


def state_panels(
    groups: Groups | None,
    names: Sequence[str],
    real: Float[np.ndarray, "T Y"],
    futures: Futures | None,
    *,
    kind: Target,
) -> list[Panel]:
    """A panel for each number of a state whose groups are known, of the first ``MOST`` numbers otherwise.

    ``names`` are those of the numbers, where they have any.  Numbers without groups have a section of their ``kind``:
    panels of one section and title, of several policies, are one picture.
    """
    if groups is None:
        shown = names or [f"number {index}" for index in range(real.shape[1])]
        return [
            _of_state(kind, name, "", real[:, index], futures, index, 1.0)
            for index, name in enumerate(shown[:MOST])
        ]
    found: list[Panel] = []
    for group in groups:
        if group.kind == "rotation":  # two columns of a matrix, which nobody reads
            continue
        section, width = group.name.replace("_", " "), group.stop - group.start
        unit = "" if group.unit == "1" else group.unit
        for index in range(width):
            part = AXES[index] if width == 3 else str(index)
            title, place = section if width == 1 else f"{section} {part}", group.start + index
            found.append(_of_state(section, title, unit, real[:, place], futures, place, group.scale))
    return found


def _of_state(  # noqa: PLR0913 - the fields of a panel
    section: str,
    title: str,
    unit: str,
    real: Float[np.ndarray, " T"],
    futures: Futures | None,
    index: int,
    scale: float,
) -> Panel:
    predicted = None if futures is None else scale * futures.state[..., index]
    return Panel(section=section, title=title, unit=unit, real=scale * real, predicted=predicted)


def action_panels(spec: ActionSpec, action: Float[np.ndarray, "T A"]) -> list[Panel]:
    """A panel for each number of the action, in the environment's own form."""
    decoded = np.asarray(jax.device_get(spec.decode(jnp.asarray(action))), np.float32)
    flat = decoded.reshape(len(action), -1)
    name = "action" if isinstance(spec, Box) else "choice"
    titles = [name] if flat.shape[1] == 1 else [f"{name} {index}" for index in range(flat.shape[1])]
    return [
        Panel(section="action", title=title, unit="", real=flat[:, index])
        for index, title in enumerate(titles[:MOST])
    ]


def return_panels(episode: Episode, futures: Futures | None) -> list[Panel]:
    """Reward and return so far."""
    predicted = None if futures is None else futures.reward
    return [
        Panel(section=RETURNS, title="reward", unit="", real=episode.reward, predicted=predicted),
        Panel(section=RETURNS, title="return so far", unit="", real=np.cumsum(episode.reward)),
    ]


def value_panel(
    episode: Episode, values: Float[np.ndarray, " T"], *, discount: float, smoothing_weight: float
) -> Panel:
    """The critic's value and the discounted return that followed."""
    timestep = jax.tree.map(jnp.asarray, episode.timestep)
    reward = timestep.reward.total(smoothing_weight)
    followed = np.asarray(realised_return(reward, jnp.asarray(values), timestep, discount))
    last = 0.0 if timestep.is_terminal[-1] else values[-1]
    return Panel(
        section=RETURNS,
        title="value",
        unit="",
        real=values,
        also=np.append(followed, last),
        also_title="discounted return that followed",
    )


def flight_panels(
    vel_w: Float[np.ndarray, "T 3"],
    pos_w: Float[np.ndarray, "T 3"],
    velocity: Float[np.ndarray, "M S H 3"] | None,
    position: Float[np.ndarray, "M S H 3"] | None,
) -> list[Panel]:
    """Speed and height of a drone; the predicted velocity may be in any axes."""
    return [
        Panel(
            section="flight",
            title="speed",
            unit="m/s",
            real=np.linalg.norm(vel_w, axis=-1),
            predicted=None if velocity is None else np.linalg.norm(velocity, axis=-1),
        ),
        Panel(
            section="flight",
            title="height",
            unit="m",
            real=pos_w[:, 2],
            predicted=None if position is None else position[..., 2],
        ),
    ]


def predicted_group(
    groups: Groups | None, futures: Futures | None, name: str
) -> Float[np.ndarray, "M S H n"] | None:
    """What is predicted of one group, in its unit; None where there is none of this name."""
    found = next((group for group in groups or () if group.name == name), None)
    if found is None or futures is None:
        return None
    return found.scale * futures.state[..., found.start : found.stop]
