"""An environment that shows a dictionary with an image, and a state that only training may know.

A hand has to reach a disk.  A camera of 32 x 32 pixels shows both; the hand also feels where it is.  Where both are
stands under ``state``: with ``--privileged state`` the world model learns to tell it from what it sees, and the policy
is never shown it.

    s5wm check-env own_dict_env:Reach --privileged state
    s5wm train own_dict_env:Reach --privileged state --env-steps 10000 --run runs/reach
    s5wm eval runs/reach --video reach.gif

Without ``--privileged``, ``state`` is one more part of what the policy sees.
"""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

SIDE = 32  # pixels
SPEED = 0.15  # of the box's half width, a step
NEAR = 0.15  # distance that counts as reached
RED, GREEN = np.array([255, 60, 40]), np.array([60, 220, 90])

PLACES = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)


class Reach(gym.Env[dict[str, np.ndarray], np.ndarray]):
    """Pays minus the distance at every step; solved where the hand is near the disk at the end."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gym.spaces.Dict(
        {
            "camera": gym.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8),
            "hand": PLACES,
            "state": gym.spaces.Box(-1.0, 1.0, (4,), np.float32),
        }
    )
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, steps: int = 25, render_mode: str | None = None) -> None:
        """``--env-arg steps=40`` is given here."""
        self.steps, self.render_mode = steps, render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """A new episode: the first observation, and an info."""
        super().reset(seed=seed)
        self.hand, self.disk = self.np_random.uniform(-0.9, 0.9, (2, 2)).astype(np.float32)
        self.elapsed = 0
        return self._look(), {}

    def step(self, action: np.ndarray):
        """One step: observation, reward, terminated, truncated, info."""
        self.hand = np.clip(self.hand + SPEED * np.asarray(action, np.float32), -1.0, 1.0)
        self.elapsed += 1
        distance = float(np.linalg.norm(self.hand - self.disk))
        is_over = self.elapsed >= self.steps
        # Named numbers under `metrics` at the end of an episode stand in logs, evaluations and plots.
        info = {"is_success": distance < NEAR, "metrics": {"distance": distance}} if is_over else {}
        return self._look(), -distance, False, is_over, info

    def render(self) -> np.ndarray:
        """What the camera shows, larger, for videos."""
        return self._picture(256)

    def _look(self) -> dict[str, np.ndarray]:
        state = np.concatenate([self.hand, self.disk])
        return {"camera": self._picture(SIDE), "hand": self.hand.copy(), "state": state}

    def _picture(self, side: int) -> np.ndarray:
        """Both as discs on black, the hand in red above the disk in green."""
        line = (np.arange(side) + 0.5) / side * 2.0 - 1.0
        picture = np.zeros((side, side, 3))
        for place, colour in ((self.disk, GREEN), (self.hand, RED)):
            away = np.hypot(line[None, :] - place[0], line[:, None] - place[1])
            covered = np.clip((0.14 - away) * side / 2.0 + 0.5, 0.0, 1.0)[..., None]  # smooth at the rim
            picture = picture * (1.0 - covered) + colour * covered
        return picture.astype(np.uint8)
