"""Unit quaternions, w first, body to world."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Quat = Float[Array, " 4"]
Vec3 = Float[Array, " 3"]


def multiply(a: Quat, b: Quat) -> Quat:
    """Hamilton product: first the rotation ``b``, then ``a``."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return jnp.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        )
    )


def conjugate(quat: Quat) -> Quat:
    """The inverse of a unit quaternion."""
    return quat * jnp.array((1.0, -1.0, -1.0, -1.0), quat.dtype)


def rotate(quat: Quat, vec_b: Vec3) -> Vec3:
    """A body-frame vector in world axes."""
    w, x, y, z = quat
    a, b, c = vec_b
    # v + 2 u x (u x v + w v), with u the vector part
    d, e, f = y * c - z * b + w * a, z * a - x * c + w * b, x * b - y * a + w * c
    return vec_b + 2.0 * jnp.stack((y * f - z * e, z * d - x * f, x * e - y * d))


def rotate_inverse(quat: Quat, vec_w: Vec3) -> Vec3:
    """A world-frame vector in body axes."""
    return rotate(conjugate(quat), vec_w)


def to_matrix(quat: Quat) -> Float[Array, "3 3"]:
    """Rotation matrix, body to world: its columns are the body axes in world coordinates."""
    w, x, y, z = quat
    return jnp.stack(
        (
            jnp.stack((1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y))),
            jnp.stack((2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x))),
            jnp.stack((2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y))),
        )
    )


def from_matrix(matrix: Float[Array, "3 3"]) -> Quat:
    """Body-to-world matrix to quaternion with ``w >= 0``.

    ``4 q q^T`` is linear in the matrix; its column with the largest diagonal entry is the quaternion but for scale.
    """
    m = matrix
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    vector = jnp.stack([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
    outer = m + m.T + (1.0 - trace) * jnp.eye(3)
    product = jnp.block([[(1.0 + trace)[None, None], vector[None]], [vector[:, None], outer]])
    column = product[:, jnp.argmax(jnp.diagonal(product))]
    return normalise(jnp.where(column[0] < 0.0, -column, column))


def from_yaw(yaw: Float[Array, ""]) -> Quat:
    """Level attitude with the nose at ``yaw`` rad from world x."""
    half = 0.5 * jnp.asarray(yaw)
    zero = jnp.zeros_like(half)
    return jnp.stack((jnp.cos(half), zero, zero, jnp.sin(half)))


def exp(rotation_b: Vec3) -> Quat:
    """Exponential map of a rotation vector (rad); smooth through zero, gradient included."""
    square = jnp.sum(rotation_b * rotation_b)
    is_small = square < 1e-8
    angle = jnp.sqrt(jnp.where(is_small, 1.0, square))
    # sin(a/2)/a and its series; the inner where keeps the gradient finite at zero
    scale = jnp.where(is_small, 0.5 - square / 48.0, jnp.sin(0.5 * angle) / angle)
    w = jnp.where(is_small, 1.0 - square / 8.0, jnp.cos(0.5 * angle))
    return jnp.concatenate((w[None], scale * rotation_b))


def integrate(quat: Quat, omega_b: Vec3, dt: float) -> Quat:
    """Exact attitude after ``dt`` s at a constant body rate."""
    return multiply(quat, exp(omega_b * dt))


def normalise(quat: Quat) -> Quat:
    """Remove the rounding error of the norm."""
    return quat / jnp.sqrt(jnp.sum(quat * quat))
