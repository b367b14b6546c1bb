"""Where an episode starts: the start pose, or a gate in a state in which this environment has passed it."""

import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from s5wm.envs.quadrotor import bodyrate, quaternion
from s5wm.envs.quadrotor.params import QuadParams
from s5wm.envs.quadrotor.state import QuadState, hover_state
from s5wm.envs.racing.track import Track
from s5wm.types import Key, Scalar

SLOTS = 10
"""States remembered per gate."""

CLEARANCE = 0.05
"""How far past its gate a restarted drone is at least, and from the walls of the flight volume, m."""

_SIZES = (3, 3, 4, 3, 4)  # of the leaves of a QuadState


@dataclass(frozen=True, kw_only=True)
class ResetNoise:
    """Half widths of the uniform noise on the first state of an episode."""

    pos: tuple[float, float, float] = (0.5, 0.5, 0.3)  # m, world axes
    vel: float = 0.125  # m/s per axis
    tilt: float = math.radians(4.0)  # rad per component of a rotation vector in body axes
    rate: float = math.radians(5.0)  # rad/s per axis

    def __post_init__(self) -> None:
        for name, width in (
            ("pos", min(self.pos)),
            ("vel", self.vel),
            ("tilt", self.tilt),
            ("rate", self.rate),
        ):
            if not width >= 0.0:
                raise ValueError(
                    f"ResetNoise.{name} is {width}; half widths must be at least 0: give 0 for none."
                )


class Moment(eqx.Module):
    """A state in which a flight may begin, and the action under which it was reached, which may still be in flight."""

    quad: QuadState
    action: Float[Array, " 4"]


class RestartBuffer(eqx.Module):
    """Per gate, the last moments in which this environment has passed it."""

    states: Float[Array, "G S 17"]  # leaves of QuadState side by side
    actions: Float[Array, "G S 4"]
    next_slot: Int[Array, " G"]


class Restart(eqx.Module):
    """First moment of an episode."""

    quad: QuadState
    action: Float[Array, " 4"]
    target: Int[Array, ""]
    from_start: Bool[Array, ""]  # the start pose, not a gate


def empty_buffer(track: Track, params: QuadParams) -> RestartBuffer:
    """Every slot at its gate's centre, just past the plane, level, 2 m/s in its direction, after hovering's action."""
    normal = track.normal
    quads = jax.vmap(hover_state, in_axes=(None, 0, 0))(
        params, track.gate_pos + CLEARANCE * normal, track.gate_yaw
    )
    rows = jax.vmap(_pack)(eqx.tree_at(lambda q: q.vel_w, quads, 2.0 * normal))
    states = jnp.broadcast_to(rows[:, None], (track.num_gates, SLOTS, rows.shape[-1]))
    actions = jnp.broadcast_to(bodyrate.hover_action(params), (track.num_gates, SLOTS, 4))
    return RestartBuffer(states=states, actions=actions, next_slot=jnp.zeros(track.num_gates, jnp.int32))


def remember(
    buffer: RestartBuffer, gate: Int[Array, ""], moment: Moment, passed: Bool[Array, ""]
) -> RestartBuffer:
    """The buffer with ``moment`` in place of the oldest of ``gate``, if it was passed."""
    gate = jnp.where(passed, gate, buffer.next_slot.shape[0])  # out of bounds: the write is dropped
    slot = buffer.next_slot.at[gate].get(mode="fill", fill_value=0)
    return RestartBuffer(
        states=buffer.states.at[gate, slot].set(_pack(moment.quad), mode="drop"),
        actions=buffer.actions.at[gate, slot].set(moment.action, mode="drop"),
        next_slot=buffer.next_slot.at[gate].set((slot + 1) % SLOTS, mode="drop"),
    )


def draw_restart(
    track: Track, start: Moment, buffer: RestartBuffer, noise: ResetNoise, p_start: Scalar, key: Key
) -> Restart:
    """With probability ``p_start`` the ``start`` at gate 0, else a remembered moment of a random gate.

    A state of gate ``g`` flies on to the gate after ``g``.  Noise is added to both kinds; it never puts
    the drone outside the flight volume or back behind the gate that it has passed.
    """
    k_kind, k_gate, k_slot, k_noise = jr.split(key, 4)
    from_start = jr.bernoulli(k_kind, p_start)
    gate = jr.randint(k_gate, (), 0, track.num_gates)
    slot = jr.randint(k_slot, (), 0, SLOTS)
    past = Moment(quad=_unpack(buffer.states[gate, slot]), action=buffer.actions[gate, slot])
    begun = jax.tree.map(lambda a, b: jnp.where(from_start, a, b), start, past)
    quad = _perturbed(begun.quad, noise, k_noise)

    normal = track.normal[gate]
    behind = CLEARANCE - jnp.sum((quad.pos_w - track.gate_pos[gate]) * normal)
    pos_w = quad.pos_w + jnp.where(from_start, 0.0, jnp.maximum(behind, 0.0)) * normal
    pos_w = jnp.clip(pos_w, track.box_lo + CLEARANCE, track.box_hi - CLEARANCE)
    return Restart(
        quad=eqx.tree_at(lambda q: q.pos_w, quad, pos_w),
        action=begun.action,
        target=jnp.where(from_start, 0, track.following(gate)),
        from_start=from_start,
    )


def _perturbed(quad: QuadState, noise: ResetNoise, key: Key) -> QuadState:
    unit = jr.uniform(key, (4, 3), minval=-1.0, maxval=1.0)
    quat = quaternion.multiply(quad.quat, quaternion.exp(noise.tilt * unit[2]))
    return QuadState(
        pos_w=quad.pos_w + jnp.array(noise.pos) * unit[0],
        vel_w=quad.vel_w + noise.vel * unit[1],
        quat=quaternion.normalise(quat),
        omega_b=quad.omega_b + noise.rate * unit[3],
        rotor_speed=quad.rotor_speed,
    )


def _pack(quad: QuadState) -> Float[Array, " 17"]:
    return jnp.concatenate((quad.pos_w, quad.vel_w, quad.quat, quad.omega_b, quad.rotor_speed))


def _unpack(row: Float[Array, " 17"]) -> QuadState:
    parts: list[Array] = []
    begin = 0
    for size in _SIZES:
        parts.append(row[begin : begin + size])
        begin += size
    return QuadState(*parts)
