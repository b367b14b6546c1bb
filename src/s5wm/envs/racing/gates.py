"""Crossings of gates by a straight segment: exact intersections with their planes."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from s5wm.envs.racing.track import Track
from s5wm.types import Scalar


class Gap(eqx.Module):
    """Opening of a gate."""

    opening: Scalar  # factor on the half opening: 1 is the gate as built, more is a training aid
    radius: Scalar  # of the drone, m: its centre keeps this distance from the rim

    def clearance(self, half_opening: Scalar) -> Scalar:
        """How far from the axis the drone's centre may pass, m."""
        return self.opening * half_opening - self.radius


class GateEvent(eqx.Module):
    """Crossings of gates between two positions."""

    passed: Bool[Array, ""]  # the target, through its opening, in the right direction
    wrong_way: Bool[Array, ""]  # the target, through its opening, backwards
    rim_hit: Bool[Array, ""]  # the rim of any gate, from either side
    fraction: Scalar  # where on the segment the target's plane is met, in [0, 1]; 1 if it is not
    miss: Scalar  # max-norm distance from the target's axis there, m; 0 if it is not


def cross_gates(
    track: Track, target: Int[Array, ""], start_w: Float[Array, " 3"], end_w: Float[Array, " 3"], gap: Gap
) -> GateEvent:
    """Crossings of the gates of a track by the segment from ``start_w`` to ``end_w``.

    With ``(x, y, z)`` in the frame of a gate, the plane ``x = 0`` is crossed if one end has ``x < 0`` and
    the other ``x >= 0``, so a path cut anywhere crosses exactly once; the point of crossing has ``x = 0``,
    and ``e = max(|y|, |z|)`` decides: ``e <= opening * half - radius`` is inside, from there to
    ``half + rim + radius`` is the rim, and beyond nothing happens.  Planes of gates that do not share one
    are further apart than a step is long, so a clean pass of the target excludes a rim hit.
    """
    x_start, x_end = _along(track, start_w), _along(track, end_w)
    forwards, backwards = (x_start < 0) & (x_end >= 0), (x_start >= 0) & (x_end < 0)
    crossed = forwards | backwards
    span = x_start - x_end
    # A crossing of denormal length (start and end on the plane) has any fraction; 0 keeps it finite.
    fraction = jnp.where(crossed, x_start / jnp.where(jnp.abs(span) > 1e-12, span, 1.0), 1.0)

    offset = start_w[None] + fraction[:, None] * (end_w - start_w)[None] - track.gate_pos
    y, z = jnp.sum(offset * track.left, axis=-1), offset[:, 2]
    miss = jnp.maximum(jnp.abs(y), jnp.abs(z))
    inner = gap.clearance(track.half_opening)
    inside = crossed & (miss <= inner)
    below_posts = ~track.has_lower_rim & (z < 0) & (jnp.abs(y) <= inner)
    on_rim = crossed & ~inside & ~below_posts & (miss < track.half_opening + track.rim + gap.radius)

    passed = inside[target] & forwards[target]
    return GateEvent(
        passed=passed,
        wrong_way=inside[target] & backwards[target],
        rim_hit=jnp.any(on_rim) & ~passed,
        fraction=fraction[target],
        miss=jnp.where(crossed[target], miss[target], 0.0),
    )


def distance_to_gate(track: Track, gate: Int[Array, ""], pos_w: Float[Array, " 3"]) -> Scalar:
    """Distance to the centre of a gate, m."""
    return jnp.linalg.norm(track.gate_pos[gate] - pos_w)


def _along(track: Track, pos_w: Float[Array, " 3"]) -> Float[Array, " G"]:
    """Coordinate along the direction of passing of each gate, m."""
    return jnp.sum((pos_w[None] - track.gate_pos) * track.normal, axis=-1)
