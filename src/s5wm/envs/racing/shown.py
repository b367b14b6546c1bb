"""Data of a race for pictures, exported policies and its camera."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from s5wm.envs.base import AbstractCameraEnv, AbstractDroneEnv, Deployment
from s5wm.envs.groups import to_rotation
from s5wm.envs.quadrotor.params import QuadParams
from s5wm.envs.quadrotor.quaternion import from_matrix
from s5wm.envs.racing.camera import Pose, render
from s5wm.envs.racing.observation import POSITION_SCALE
from s5wm.envs.racing.positions import pose_from_layout_c
from s5wm.envs.racing.scene import Scene
from s5wm.envs.racing.track import Track
from s5wm.runs.flights import TrackGeometry, track_geometry

State = TypeVar("State")


class AbstractRaceEnv(AbstractCameraEnv[State], AbstractDroneEnv[State]):
    """A race, apart from its rules."""

    params: eqx.AbstractVar[QuadParams]
    track: eqx.AbstractVar[Track]
    config: eqx.AbstractVar[Any]  # RacingConfig
    scene: eqx.AbstractVar[Scene | None]

    def pictures_of(self, privileged: Float[Array, "T Y"]) -> UInt8[Array, "T H W 3"]:
        """Camera images at these states."""
        config, scene = self.config.camera, self.scene
        assert config is not None and scene is not None, "a race without a camera shows no pictures"
        if self.config.privileged_layout == "C":
            pos_w, attitude = pose_from_layout_c(self.track.gate_pos, self.track.gate_yaw, privileged)
        else:
            # It begins as layout B does: position, velocity, two columns of the attitude.
            pos_w = POSITION_SCALE * privileged[:, :3]
            attitude = jnp.swapaxes(to_rotation(privileged[:, 6:12]), -1, -2)
        poses = Pose(pos_w=pos_w, quat=jax.vmap(from_matrix)(attitude))
        return jax.vmap(lambda pose: render(config, scene, pose))(poses)

    def track_geometry(self) -> TrackGeometry:
        """The gates of the track."""
        return track_geometry(self.track)

    def room(self) -> Float[np.ndarray, "1 3"]:
        """The start; gates define the rest."""
        return np.asarray(self.track.start_pos)[None]

    def deployment(self) -> Deployment:
        """Observation, quadrotor and gates."""
        config = self.config
        own = {
            "name": config.track.name,
            "drone_radius": config.drone_radius,
            "action_delay": config.action_delay,
        }
        arrays = {name: getattr(self.track, name) for name in Track.__dataclass_fields__}
        return Deployment(layout=self._layout(), vehicle=self.params, track=arrays | own)

    def _layout(self) -> str:
        eye = self.config.camera
        if eye is None:
            return self.config.observation
        return "image and imu" if eye.imu else "image"
