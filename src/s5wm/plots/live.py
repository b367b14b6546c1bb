"""Live pictures of a flight, for ``render`` of our Gymnasium environments."""

from collections import deque
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.backends.registry import BackendFilter, backend_registry
from matplotlib.colors import Normalize

from s5wm.plots.drone import Pose
from s5wm.plots.motion import Motion
from s5wm.plots.stage import Frame, Moment, Stage
from s5wm.plots.style import house_style
from s5wm.runs.flights import TrackGeometry

TRAIL = 1.4
"""s of flight that fade behind the drone."""

TOP_SPEED = 15.0
"""m/s, the end of the colours, which have to be chosen before the flight."""


class LiveFlight:
    """The present state of a drone on its track, and its recent path."""

    def __init__(
        self, track: TrackGeometry | None, room: Float[np.ndarray, "_ 3"], title: str, dt: float
    ) -> None:
        """With room for the track and the points ``room`` (m); states come every ``dt`` seconds."""
        with house_style():
            self._stage = Stage(track, [np.asarray(room, np.float64)], title, trace=None)
        self._dt = dt
        self._speeds = Normalize(0.0, TOP_SPEED)
        self._tail: deque[tuple[Float[np.ndarray, " 3"], float]] = deque(maxlen=1 + round(TRAIL / dt))
        self._seen = 0
        self._moment: tuple[Pose, int] | None = None

    def begin(self) -> None:
        """An episode begins: nothing has been seen of it."""
        self._tail.clear()
        self._seen = 0

    def see(self, pose: Pose, vel_w: Float[np.ndarray, " 3"], target: int) -> None:
        """The next state; ``target`` is the gate to pass."""
        self._tail.append((np.asarray(pose.pos_w, np.float64), float(np.linalg.norm(vel_w))))
        self._moment = (pose, target)
        self._seen += 1

    def frame(self, words: str = "") -> Frame:
        """The picture of the state seen last; ``words`` follow time and speed."""
        assert self._moment is not None, "a state is seen before it is drawn"
        pose, target = self._moment
        places, speeds = zip(*(self._tail if len(self._tail) > 1 else 2 * list(self._tail)), strict=True)
        tail = Motion(
            time=self._dt * np.arange(len(places)),
            pos_w=np.stack(places),
            speed=np.asarray(speeds),
            quat=np.tile(np.asarray(pose.quat, np.float64), (len(places), 1)),
        )
        seconds = self._dt * max(self._seen - 1, 0)
        moment = Moment(pose=pose, target=target, tail=tail)
        with house_style():
            return self._stage.draw(moment, self._speeds, f"{seconds:5.2f} s  {speeds[-1]:5.1f} m/s{words}")


class Window:
    """A window on the screen that shows one picture after the other."""

    def __init__(self, title: str) -> None:
        """Raises ``RuntimeError`` where matplotlib has no screen to draw on."""
        import matplotlib.pyplot as plt

        backend = str(mpl.get_backend()).lower()
        if backend not in backend_registry.list_builtin(BackendFilter.INTERACTIVE):
            raise RuntimeError(
                f"there is no window to render to: matplotlib draws with {backend!r} here; set MPLBACKEND to one with "
                "windows, such as TkAgg, or use render_mode='rgb_array' and gymnasium.wrappers.RecordVideo"
            )
        self._plt: Any = plt
        self._figure = plt.figure(title, frameon=False)
        self._axes = self._figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self._axes.set_axis_off()
        self._image: Any = None

    def show(self, frame: Frame) -> None:
        """The next picture."""
        if self._image is None:
            self._image = self._axes.imshow(frame)
        else:
            self._image.set_data(frame)
        self._figure.canvas.draw_idle()
        self._figure.canvas.flush_events()
        self._plt.pause(0.001)

    def close(self) -> None:
        """Close the window."""
        self._plt.close(self._figure)
