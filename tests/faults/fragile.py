"""An environment that breaks when it is told to: it finds its orders as files, and each is obeyed once."""

import os
import signal
import time
from pathlib import Path

import gymnasium as gym
import numpy as np

ORDERS = ("raise", "kill", "hang", "shape", "nan")


class Fragile(gym.Env):
    """Shows its step; before every step it looks for an order in ``folder``."""

    observation_space = gym.spaces.Box(-1e3, 1e3, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, folder: str, steps: int = 6) -> None:
        self.folder, self.steps = Path(folder), steps
        (self.folder / f"pid-{os.getpid()}").touch()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        order = self._order() if self.t > 1 else None
        shown = np.full(2, np.nan if order == "nan" else self.t, np.float32)
        shown = np.zeros(3, np.float32) if order == "shape" else shown
        return shown, float(action), self.t == self.steps, False, {}

    def _order(self) -> str | None:
        for path in sorted(self.folder.glob("order-*")):
            try:
                path.unlink()
            except FileNotFoundError:  # another copy was faster
                continue
            order = path.name.split("-")[2]
            if order == "raise":
                raise RuntimeError("the simulator broke")
            if order == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if order == "hang":
                (self.folder / f"hangs-{os.getpid()}").touch()
                time.sleep(1e6)
            return order
        return None


def order(folder: Path, *names: str) -> None:
    """What copies are to do, in this order."""
    for number, name in enumerate(names):
        assert name in ORDERS
        (folder / f"order-{number:03}-{name}").touch()


def workers(folder: Path) -> list[int]:
    """All processes that have ever made one, but this one."""
    found = [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]
    return [pid for pid in found if pid != os.getpid()]


def is_alive(pid: int) -> bool:
    """Whether the process runs, a dead one that nobody has asked for not counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
