"""Pictures of one environment, for ``render`` of the Gymnasium adapters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s5wm.envs.base import AbstractDroneEnv, AbstractEnv, DroneView, innermost

RENDER_MODES = ("rgb_array", "human")


def render_modes(env: AbstractEnv[Any]) -> list[str]:
    """Those that there are: none where no drone flies that could be drawn."""
    return list(RENDER_MODES) if isinstance(innermost(env), AbstractDroneEnv) else []


def check_render_mode(mode: str | None, known: Sequence[str]) -> None:
    """Raises ``ValueError`` for a mode that an environment does not have."""
    if mode is not None and mode not in known:
        choice = f"choose of {', '.join(known)}, or None" if known else "no drone flies in it: leave it out"
        raise ValueError(f"render_mode is {mode!r}; {choice}")


class Screen:
    """A flight as pictures [400, 600, 3] of uint8: the track, the drone and its trail; ``human`` shows them, too."""

    def __init__(self, env: AbstractEnv[Any], mode: str, title: str) -> None:
        # Matplotlib is imported by those who look.
        from s5wm.plots.live import LiveFlight, Window

        bare = innermost(env)
        assert isinstance(bare, AbstractDroneEnv), "render_modes has none where no drone flies"
        self._window = Window(title) if mode == "human" else None
        self._flight = LiveFlight(
            bare.track_geometry(),
            bare.room(),
            title,
            env.spec.ctrl_dt,
        )
        self._words = ""

    def see(self, drone: DroneView, *, is_first: bool) -> None:
        """The next state of the environment; ``is_first``: of a new episode."""
        from s5wm.plots.drone import Pose

        if is_first:
            self._flight.begin()
        ending = int(drone.ending)
        self._words = f"   {drone.endings[ending].lower().replace('_', ' ')}" if ending else ""
        pose = Pose(pos_w=np.asarray(drone.pos_w), quat=np.asarray(drone.quat))
        self._flight.see(pose, np.asarray(drone.vel_w), int(drone.target))
        if self._window is not None:
            self._window.show(self.frame())

    def frame(self) -> NDArray[np.uint8]:
        """The picture of the state seen last."""
        return self._flight.frame(self._words)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
