"""An environment with a simulator in a process of its own, which hears SIGTERM alone."""

import subprocess
import time
from pathlib import Path

import gymnasium as gym
import numpy as np


class Simulated(gym.Env):
    """Leaves the id of its simulator in ``folder``; ``hang`` makes its first step hang, ``close`` its close."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    metadata = {"render_fps": 10}

    def __init__(self, folder: str, hangs: str = "") -> None:
        self.hangs = hangs
        self.simulator = subprocess.Popen(["sleep", "1000"])
        Path(folder, f"simulator-{self.simulator.pid}").touch()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        if self.hangs == "step":
            time.sleep(1000)
        self.t += 1
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), 0.0, self.t == 5, False, {}

    def close(self) -> None:
        if self.hangs == "close":
            time.sleep(1000)
        self.simulator.terminate()
        self.simulator.wait(5)


def simulators(folder: Path) -> list[int]:
    """All that were ever begun."""
    return [int(path.name.removeprefix("simulator-")) for path in folder.glob("simulator-*")]
