"""One ray per sample against a scene: exact intersections, no mesh and no search.

Everything here is a plane: one array of the same length for each number of a ray, never a short axis of three, so that
XLA makes wide vector instructions of it, and one integer a sample comes out, so that it makes one loop of it.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from s5wm.envs.racing.scene import GATE_DEPTH, Colours, Scene

NEAR = 0.02
"""Nothing nearer than this to the plane of the lens is seen, m."""

_SLACK = 1e-3  # of the image plane at depth 1, for rounding
_SMALLEST = 1e-6  # of a direction's component: a ray parallel to a plane meets it a thousand kilometres away
_GROUND_CELL, _WALL_CELL = 1.0, 1.5  # m
_FINE, _COARSE = 0.10, 0.05  # contrast of the checkers; the coarse one has cells four times as large
# Contrast of the tint, from the middle of the flight volume to its ends.
_GROUND_DRIFT, _WALL_DRIFT = 0.6, 0.25

Plane = Float[Array, " R"]
Packed = Int[Array, " R"]
"""A colour as ``red + 1024 green + 1024^2 blue``: four of them add up without a carry."""


class View(eqx.Module):
    """Where a picture is taken from."""

    eye: Float[Array, " 3"]
    axes: Float[Array, "3 3"]  # columns point forward, left and up


class Grid(eqx.Module):
    """Where rays meet the image plane at depth 1, and the bounds of these places."""

    right: Float[Array, "*k R"]
    down: Float[Array, "*k R"]
    right_ends: Float[Array, "*k 2"]
    down_ends: Float[Array, "*k 2"]


class Rays(eqx.Module):
    """Rays in world axes; a parameter ``t`` is a depth, because directions have length 1 along the optical axis."""

    eye: Float[Array, " 3"]
    x: Plane
    y: Plane
    z: Plane


def cast(view: View, grid: Grid) -> Rays:
    """Rays through the places of a grid."""
    axes, right, down = view.axes, grid.right, grid.down
    x, y, z = (axes[i, 0] - right * axes[i, 1] - down * axes[i, 2] for i in range(3))
    return Rays(eye=view.eye, x=_not_zero(x), y=_not_zero(y), z=_not_zero(z))


Trace = Callable[[Scene, Int[Array, "F 6"], View, Grid, float], Packed]
"""A tracer: the colour of what each ray of a grid meets first.

The second argument are the ``pack_faces`` of the scene: a face has one colour, so they are packed once for all rays.
The last one is the width of a pixel at depth 1.
"""


def trace(scene: Scene, faces: Int[Array, "F 6"], view: View, grid: Grid, pixel: float) -> Packed:
    """Every ray against every frame."""
    rays = cast(view, grid)
    packed = _surroundings(scene, rays, pixel)
    nearest = jnp.full_like(rays.x, jnp.inf)
    inverse_z = 1.0 / rays.z
    # Unrolled: as a loop, XLA would write all planes to memory once per gate, a sixth of the speed.
    for index in range(scene.frame_pos.shape[0]):
        depth, colour = _frame(scene, index, faces[index], rays, inverse_z)
        is_nearer = depth < nearest
        nearest = jnp.where(is_nearer, depth, nearest)
        packed = jnp.where(is_nearer, colour, packed)
    return packed


def trace_visible(scene: Scene, faces: Int[Array, "F 6"], view: View, grid: Grid, pixel: float) -> Packed:
    """The same against those frames alone that can be met.

    Programs for 0, 1, 2, 4 ... and for all frames are compiled, and the smallest that suffices runs; a program that
    takes what is visible one by one would be a loop (see ``trace``).
    """
    is_visible = visible_frames(scene, view, grid)
    order = jnp.argsort(~is_visible)  # the visible ones first
    frames = scene.frame_pos.shape[0]
    sizes = [0, *(2**power for power in range(frames.bit_length()) if 2**power < frames), frames]

    sorted_frames = scene.with_frames(order), faces[order]

    def with_frames(size: int) -> Callable[[tuple[Scene, Array]], Packed]:
        def traced(frames: tuple[Scene, Array]) -> Packed:
            scene, faces = frames
            return trace(scene.with_frames(slice(size)), faces[:size], view, grid, pixel)

        return traced

    enough = jnp.searchsorted(jnp.array(sizes), is_visible.sum())
    return jax.lax.switch(enough, [with_frames(size) for size in sizes], sorted_frames)


def visible_frames(scene: Scene, view: View, grid: Grid) -> Bool[Array, " F"]:
    """Which frames rays of this grid may meet; some of them may be met by none.

    A frame is left out where all corners of its box lie beyond one side of the pyramid that holds the rays, or
    nearer than ``NEAR``.
    """
    outer = scene.half_opening + scene.rim
    ends = np.array([-1.0, 1.0])
    forward, left, up = (
        side * half
        for side, half in zip(
            np.meshgrid(ends, ends, ends, indexing="ij"), (0.5 * GATE_DEPTH, outer, outer), strict=True
        )
    )
    corners = jnp.stack([jnp.ravel(x) for x in (forward, left, up)], axis=-1)  # [8, 3], axes of the gate
    cos, sin = scene.frame_cos[:, None], scene.frame_sin[:, None]
    along, across = corners[None, :, 0], corners[None, :, 1]
    away = jnp.stack(
        [
            along * cos - across * sin,
            along * sin + across * cos,
            jnp.broadcast_to(corners[None, :, 2], (cos.shape[0], 8)),
        ],
        axis=-1,
    )
    away = away + (scene.frame_pos - view.eye[None])[:, None]
    # Written as sums: the default precision of a matrix product on an accelerator is too low.
    depth, leftward, upward = (jnp.sum(away * view.axes[None, None, :, i], axis=-1) for i in range(3))
    is_beyond = depth < NEAR
    sides = [is_beyond]
    for place, ends in ((-leftward, grid.right_ends), (-upward, grid.down_ends)):
        sides += [place < depth * (ends[0] - _SLACK), place > depth * (ends[1] + _SLACK)]
    return ~jnp.any(jnp.stack([side.all(axis=1) for side in sides]), axis=0)


def _frame(
    scene: Scene, index: int, faces: Int[Array, " 6"], rays: Rays, inverse_z: Plane
) -> tuple[Plane, Packed]:
    """Depth (infinite for a miss) and colour of one frame: a box less the prism of its opening.

    In the frame of the gate, a box of half widths ``w`` about ``c`` holds the ray for ``t`` between
    ``(c - o)/d - w/|d|`` and ``(c - o)/d + w/|d|``, the latest entry and the earliest exit over the axes.  A ray
    that enters the box inside the opening next meets the opening's wall, where it leaves the prism, if it is still
    in the box.
    """
    cos, sin = scene.frame_cos[index], scene.frame_sin[index]
    offset = rays.eye - scene.frame_pos[index]
    x, y = _not_zero(rays.x * cos + rays.y * sin), _not_zero(rays.y * cos - rays.x * sin)
    inverse_x, inverse_y = 1.0 / x, 1.0 / y
    mid_x = -(offset[0] * cos + offset[1] * sin) * inverse_x
    mid_y = -(offset[1] * cos - offset[0] * sin) * inverse_y
    mid_z = -offset[2] * inverse_z
    half, outer, lower = scene.half_opening, scene.half_opening + scene.rim, scene.hole_lo[index]
    hole_z = mid_z + 0.5 * (half + lower) * inverse_z
    per_x, per_y, per_z = jnp.abs(inverse_x), jnp.abs(inverse_y), jnp.abs(inverse_z)

    in_x, in_y, in_z = mid_x - 0.5 * GATE_DEPTH * per_x, mid_y - outer * per_y, mid_z - outer * per_z
    out_x, out_y, out_z = mid_x + 0.5 * GATE_DEPTH * per_x, mid_y + outer * per_y, mid_z + outer * per_z
    in_side = jnp.maximum(in_y, in_z)
    entry = jnp.maximum(jnp.maximum(in_x, in_side), NEAR)
    wall_y, wall_z = mid_y + half * per_y, hole_z + 0.5 * (half - lower) * per_z
    opens = jnp.maximum(mid_y - half * per_y, hole_z - 0.5 * (half - lower) * per_z)
    wall = jnp.minimum(wall_y, wall_z)
    in_hole = (opens <= entry) & (entry < wall)
    depth = jnp.where(in_hole, wall, entry)
    is_hit = depth < jnp.minimum(jnp.minimum(out_y, out_z), out_x)

    is_y = jnp.where(in_hole, wall_y < wall_z, in_y > in_z)
    colour = jnp.where(
        ~in_hole & (in_x >= in_side),
        jnp.where(x > 0.0, faces[0], faces[1]),
        jnp.where(is_y, jnp.where(y > 0.0, faces[2], faces[3]), jnp.where(rays.z > 0.0, faces[4], faces[5])),
    )
    return jnp.where(is_hit, depth, jnp.inf), colour


def _surroundings(scene: Scene, rays: Rays, pixel: float) -> Packed:
    """Floor, walls and sky of the flight volume, from inside."""
    eye, lo, hi = rays.eye, scene.box_lo, scene.box_hi
    inverse = [1.0 / rays.x, 1.0 / rays.y, 1.0 / rays.z]
    to_x = (jnp.where(rays.x > 0.0, hi[0], lo[0]) - eye[0]) * inverse[0]
    to_y = (jnp.where(rays.y > 0.0, hi[1], lo[1]) - eye[1]) * inverse[1]
    is_x = to_x < to_y
    to_wall = jnp.minimum(to_x, to_y)
    height = eye[2] + to_wall * rays.z
    is_ground, is_sky = height < lo[2], height > hi[2]
    depth = jnp.where(is_ground, (lo[2] - eye[2]) * inverse[2], to_wall)
    x, y = eye[0] + depth * rays.x, eye[1] + depth * rays.y
    along = jnp.where(is_x & ~is_ground, y, x)
    across = jnp.where(is_ground, y, height)
    per_cell = jnp.where(is_ground, 1.0 / _GROUND_CELL, 1.0 / _WALL_CELL)
    slant = jnp.abs(jnp.where(is_ground, inverse[2], jnp.where(is_x, inverse[0], inverse[1])))
    # Length of a pixel on the surface in cells: detail fades before it is finer than the pixels that show it.
    blur = jnp.square(2.0 * pixel * depth * slant * per_cell)
    along, across = along * per_cell, across * per_cell
    fine = _checker(along, across) * _FINE / (1.0 + blur)
    coarse = _checker(0.25 * along, 0.25 * across) * _COARSE / (1.0 + blur / 16.0)

    # No two places of a room look alike; checkers alone do, from cell to cell.
    u, v = ((2.0 * p - lo[i] - hi[i]) / (hi[i] - lo[i]) for i, p in enumerate((x, y)))
    contrast = jnp.where(is_ground, _GROUND_DRIFT, _WALL_DRIFT)
    drifts = (contrast * u, contrast * v, -0.5 * contrast * (u + v))

    # A sine would need the length of the ray; this has the same ends.
    elevation = jnp.maximum(rays.z, 0.0) / (jnp.abs(rays.x) + jnp.abs(rays.y) + jnp.abs(rays.z))
    tints = _tints(scene.colours, rays, is_x, is_ground)
    sky = zip(scene.colours.horizon, scene.colours.zenith, strict=True)
    channels = (
        jnp.where(is_sky, low + elevation * (high - low), tint * (1.0 + fine + coarse + drift))
        for tint, (low, high), drift in zip(tints, sky, drifts, strict=True)
    )
    return _pack(*channels)


def _tints(
    colours: Colours, rays: Rays, is_x: Bool[Array, " R"], is_ground: Bool[Array, " R"]
) -> list[Plane]:
    """Red, green and blue of floor and walls."""
    east, west, north, south = colours.walls
    return [
        jnp.where(
            is_ground,
            colours.ground[c],
            jnp.where(
                is_x,
                jnp.where(rays.x > 0.0, east[c], west[c]),
                jnp.where(rays.y > 0.0, north[c], south[c]),
            ),
        )
        for c in range(3)
    ]


def _checker(a: Plane, b: Plane) -> Plane:
    """1 and -1 on the unit squares of a board."""
    half = 0.5 * (jnp.floor(a) + jnp.floor(b))
    return 1.0 - 4.0 * (half - jnp.floor(half))


def pack_faces(colours: Colours) -> Int[Array, "F 6"]:
    """The faces of all frames as packed colours."""
    return _pack(*jnp.moveaxis(colours.faces, -1, 0))


def _pack(red: Float[Array, "*b"], green: Float[Array, "*b"], blue: Float[Array, "*b"]) -> Int[Array, "*b"]:
    r, g, b = ((jnp.clip(c, 0.0, 255.0) + 0.5).astype(jnp.int32) for c in (red, green, blue))
    return r + (g << 10) + (b << 20)


def unpack(total: Packed, samples: int) -> Int[Array, "R 3"]:
    """Mean colour, rounded half up, of the sum of so many packed ones (at most 4)."""
    channels = jnp.stack([(total >> shift) & 1023 for shift in (0, 10, 20)], axis=-1)
    return (channels + samples // 2) // samples


def _not_zero(component: Plane) -> Plane:
    return jnp.where(jnp.abs(component) < _SMALLEST, _SMALLEST, component)
