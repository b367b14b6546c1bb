"""The races that have a name."""

from collections.abc import Callable

from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.racing.camera import CameraConfig
from s5wm.envs.racing.reward import RewardConfig
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.track import Figure8Config, SplitSConfig


def figure_8_by_camera() -> RacingConfig:
    """The Figure-8 flown by images alone.

    Thrust is clipped to 2.5 times the weight: the full quadrotor flies this track faster than 64 pixels show it.  To
    look away from the target costs up to half of what progress earns.
    """
    return RacingConfig(
        track=Figure8Config(),
        quad=QuadConfig(thrust_to_weight=2.5),
        reward=RewardConfig(view=0.05),
        camera=CameraConfig(),
        episode_seconds=8.0,
    )


RACES: dict[str, Callable[[], RacingConfig]] = {
    "race/split-s": lambda: RacingConfig(track=SplitSConfig()),
    "race/figure-8-state": lambda: RacingConfig(track=Figure8Config()),
    "race/figure-8": figure_8_by_camera,
}
