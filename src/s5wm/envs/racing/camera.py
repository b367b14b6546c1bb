"""The camera of the drone: mount, delay and sensor noise; rendering is in ``raycast``."""

import math
from dataclasses import dataclass, field, fields
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, UInt8, UInt32

from s5wm.envs.quadrotor.quaternion import to_matrix
from s5wm.envs.quadrotor.state import QuadState
from s5wm.envs.racing import raycast
from s5wm.envs.racing.observation import RATE_SCALE
from s5wm.envs.racing.scene import Colours, Scene
from s5wm.types import Key, MixedObs, Scalar

MAX_LATENCY = 4
"""Largest delay of an image in control periods."""

_ROWS = 16  # of a strip, at least

Image = UInt8[Array, "H W 3"]


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """A pinhole camera, square, with the same field of view in both directions.

    ``light``, ``colour``, ``noise`` and ``blur`` are drawn anew for every episode; 0 turns each off.
    """

    pixels: int = 64
    fov_deg: float = 90.0
    uptilt_deg: float = 15.0  # a racing drone flies nose down
    mount: tuple[float, float, float] = (0.10, 0.0, 0.05)  # m, body axes
    supersample: int = 2  # rays per pixel and direction: with one, the rim of a far gate flickers
    latency_steps: int = 0  # control periods
    equal_colours: bool = False  # all gates look the same: the lobe must be remembered
    light: float = 0.0  # brightness is a factor in [1 - light, 1 + light]
    colour: float = 0.0  # the same for red, green and blue each
    noise: float = 0.0  # standard deviation of a pixel, in [0, noise] of 255
    blur: float = 0.0  # weight of the neighbouring pixels, in [0, blur]
    imu: bool = field(default=False, metadata={"since": "numbers beside the image"})
    """Observations hold the body rates and the last action beside the image, as policies of real drones read."""

    def __post_init__(self) -> None:
        if not (8 <= self.pixels <= 512 and self.pixels % 2 == 0):
            raise ValueError(
                f"CameraConfig.pixels is {self.pixels}; it must be even and in [8, 512]: use 64."
            )
        if not 1.0 <= self.fov_deg <= 170.0:
            raise ValueError(f"CameraConfig.fov_deg is {self.fov_deg}; it must lie in [1, 170]: use 90.")
        if self.supersample not in (1, 2):
            raise ValueError(
                f"CameraConfig.supersample is {self.supersample}; it must be 1 or 2, because four colours are what "
                "adds up in one integer: use 2."
            )
        if not 0 <= self.latency_steps <= MAX_LATENCY:
            raise ValueError(
                f"CameraConfig.latency_steps is {self.latency_steps}; it must lie in [0, {MAX_LATENCY}] control "
                "periods: use 2 for 40 ms."
            )
        if not all(math.isfinite(number) for number in (self.uptilt_deg, *self.mount)):
            raise ValueError("CameraConfig.uptilt_deg and mount must be finite: use 15 and (0.1, 0.0, 0.05).")
        for each in fields(self):
            if each.name in ("light", "colour", "noise", "blur"):
                self._check_share(each.name, getattr(self, each.name))

    @staticmethod
    def _check_share(name: str, value: float) -> None:
        if not 0.0 <= value < 1.0:
            raise ValueError(f"CameraConfig.{name} is {value}; it must lie in [0, 1): use 0 to turn it off.")

    @property
    def is_randomised(self) -> bool:
        """Whether the appearance is randomised per episode."""
        return max(self.light, self.colour, self.noise, self.blur) > 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: rows from the top, columns from the left, red green blue."""
        return (self.pixels, self.pixels, 3)

    @property
    def vector_size(self) -> int:
        """Numbers beside the image."""
        return 7 if self.imu else 0

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return 0.5 * self.pixels / math.tan(math.radians(0.5 * self.fov_deg))


class Pose(eqx.Module):
    """Position and attitude of the drone."""

    pos_w: Float[Array, "*b 3"]  # m
    quat: Float[Array, "*b 4"]  # body to world, w first


class Look(eqx.Module):
    """Random appearance of one episode."""

    light: Scalar
    gains: Float[Array, " 3"]
    noise: Scalar
    blur: Scalar


class CameraState(eqx.Module):
    """State of the camera, for the next image."""

    poses: Pose  # of the last latency + 1 steps, the oldest first
    look: Look | None  # None where nothing is randomised: random numbers nobody needs take long to compile
    grain: UInt32[Array, ""] | None  # seed of this image's noise; None without noise


def beside_imu(picture: Image, quad: QuadState, action: Float[Array, " 4"]) -> MixedObs:
    """The picture and what a drone knows of itself without it: ``w/10`` and the last action flown."""
    return MixedObs(picture, jnp.concatenate([quad.omega_b / RATE_SCALE, action]))


KEY = 2**30
"""Folded into the key of an episode's beginning for it; ``fold_in`` of a small number is one of those of ``split``."""


def begin(config: CameraConfig, quad: QuadState, key: Key) -> CameraState:
    """Initial camera of an episode: its appearance is sampled, and all past poses are the present one."""
    k_look, k_grain = jr.split(key)
    poses = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (config.latency_steps + 1, *leaf.shape)), _pose_of(quad)
    )
    return CameraState(
        poses=poses,
        look=_draw_look(config, k_look) if config.is_randomised else None,
        grain=jr.bits(k_grain) if config.noise > 0.0 else None,
    )


def follow(camera: CameraState, quad: QuadState, key: Key) -> CameraState:
    """The camera one control period later."""
    poses = jax.tree.map(
        lambda past, now: jnp.concatenate((past[1:], now[None])), camera.poses, _pose_of(quad)
    )
    grain = None if camera.grain is None else jr.bits(key)
    return CameraState(poses=poses, look=camera.look, grain=grain)


def take_picture(config: CameraConfig, scene: Scene, camera: CameraState) -> Image:
    """The image that arrives now."""
    pose, look = jax.tree.map(lambda past: past[0], camera.poses), camera.look
    if look is None:
        return render(config, scene, pose)
    image = render(config, eqx.tree_at(lambda s: s.colours, scene, _lit(scene.colours, look)), pose)
    values = image.astype(jnp.float32)
    if config.blur > 0.0:
        values = _blurred(_blurred(values, look.blur, axis=0), look.blur, axis=1)
    if camera.grain is not None:
        values += look.noise * jr.normal(jr.key(camera.grain), values.shape)
    return jnp.clip(jnp.round(values), 0.0, 255.0).astype(jnp.uint8)


def render(config: CameraConfig, scene: Scene, pose: Pose) -> Image:
    """Image of a perfect sensor: the mean colour of ``supersample^2`` rays per pixel.

    A CPU renders one image after the other and traces only the frames that a strip can show; other devices trace all
    frames of all images at once.  Both give the same image.
    """
    # A batch of images on a CPU is a loop: only there can each image leave out frames of its own.
    one_by_one = jax.custom_batching.sequential_vmap(partial(_render, config, raycast.trace_visible))
    return jax.lax.platform_dependent(
        scene, pose, cpu=one_by_one, default=partial(_render, config, raycast.trace)
    )


def _render(config: CameraConfig, trace: raycast.Trace, scene: Scene, pose: Pose) -> Image:
    """The image by one of the tracers, strip by strip: the planes of a strip fit into the cache of a CPU core."""
    eye, axes = viewpoint(config, pose)
    # A drone that has just left the flight volume still sees it from inside.
    inside = jnp.clip(eye, scene.box_lo + raycast.NEAR, scene.box_hi - raycast.NEAR)
    eye = jnp.where(jnp.arange(3) == 2, jnp.maximum(eye, inside), inside)
    view = raycast.View(eye, axes)
    faces = raycast.pack_faces(scene.colours)
    samples = config.supersample**2

    def strip(_: None, grid: raycast.Grid) -> tuple[None, Array]:
        return None, trace(scene, faces, view, grid, 1.0 / config.focal)

    _, packed = jax.lax.scan(strip, None, _grid(config))
    # Not within a strip: XLA would make one loop of tracing and summing, without vector instructions.
    total = jnp.sum(packed.reshape(packed.shape[0], samples, -1), axis=1)
    return raycast.unpack(total.ravel(), samples).astype(jnp.uint8).reshape(config.shape)


def viewpoint(config: CameraConfig, pose: Pose) -> tuple[Float[Array, " 3"], Float[Array, "3 3"]]:
    """Position of the lens in the world; the columns of the matrix are its forward, left and up."""
    body = to_matrix(pose.quat)
    tilt = math.radians(config.uptilt_deg)
    cos, sin = math.cos(tilt), math.sin(tilt)
    mounted = jnp.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
    # Written as sums: the default precision of a matrix product on an accelerator loses half a pixel.
    axes = jnp.sum(body[:, :, None] * mounted[None], axis=1)
    return pose.pos_w + jnp.sum(body * jnp.array(config.mount)[None], axis=1), axes


def off_axis(config: CameraConfig | None, quad: QuadState, place: Float[Array, " 3"]) -> Scalar:
    """``1 - cos`` of the angle between the optical axis (without a camera, the nose) and the way to a place."""
    axis = to_matrix(quad.quat)[:, 0] if config is None else viewpoint(config, _pose_of(quad))[1][:, 0]
    way = place - quad.pos_w
    return 1.0 - jnp.sum(axis * way) / jnp.maximum(jnp.linalg.norm(way), 1e-6)


def _grid(config: CameraConfig) -> raycast.Grid:
    """The rays of an image, strip by strip, in it sample by sample."""
    pixels, samples = config.pixels, config.supersample
    strips = next(count for count in range(max(1, pixels // _ROWS), 0, -1) if pixels % count == 0)
    place = ((np.arange(pixels * samples) + 0.5) / samples - 0.5 * pixels) / config.focal
    place = place.reshape(pixels, samples)
    shape = (strips, samples, samples, pixels // strips, pixels)
    down = place.reshape(strips, -1, samples).transpose(0, 2, 1)[:, :, None, :, None]
    right = place.T[None, None, :, None, :]
    planes = [np.broadcast_to(each, shape).reshape(strips, -1) for each in (right, down)]
    ends = [np.stack([each.min(axis=1), each.max(axis=1)], axis=1) for each in planes]
    return raycast.Grid(*(jnp.asarray(each, jnp.float32) for each in (*planes, *ends)))


def _draw_look(config: CameraConfig, key: Key) -> Look:
    draws = jr.uniform(key, (6,))
    return Look(
        light=1.0 + config.light * (2.0 * draws[0] - 1.0),
        gains=1.0 + config.colour * (2.0 * draws[1:4] - 1.0),
        noise=255.0 * config.noise * draws[4],
        blur=config.blur * draws[5],
    )


def _lit(colours: Colours, look: Look) -> Colours:
    gains = look.light * look.gains
    return jax.tree.map(lambda c: c * gains.reshape((1,) * (c.ndim - 1) + (3,)), colours)


def _blurred(values: Float[Array, "H W 3"], weight: Scalar, *, axis: int) -> Float[Array, "H W 3"]:
    """Binomial filter along one axis; ``weight`` 0 leaves the image, 1 is ``(1, 2, 1) / 4``."""
    padded = jnp.pad(values, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
    size = values.shape[axis]
    before = jax.lax.slice_in_dim(padded, 0, size, axis=axis)
    after = jax.lax.slice_in_dim(padded, 2, size + 2, axis=axis)
    return (1.0 - 0.5 * weight) * values + 0.25 * weight * (before + after)


def _pose_of(quad: QuadState) -> Pose:
    return Pose(pos_w=quad.pos_w, quat=quad.quat)
