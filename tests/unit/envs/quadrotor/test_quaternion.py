import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from s5wm.envs.quadrotor import quaternion

exp = jax.jit(quaternion.exp)
rotate = jax.jit(quaternion.rotate)
rotate_inverse = jax.jit(quaternion.rotate_inverse)
multiply = jax.jit(quaternion.multiply)
to_matrix = jax.jit(quaternion.to_matrix)
vectors = st.lists(st.floats(-3.0, 3.0, width=32), min_size=3, max_size=3).map(
    lambda v: jnp.array(v, jnp.float32)
)
laws = settings(max_examples=40, deadline=None)


def rodrigues(rotation):
    """Rotation matrix of a rotation vector, by the textbook formula in float64."""
    rotation = np.asarray(rotation, np.float64)
    angle = np.linalg.norm(rotation)
    x, y, z = rotation / max(angle, 1e-30)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@laws
@given(vectors, vectors)
def test_exp_matrix_and_rotate_agree_with_rodrigues(rotation, vec):
    quat = exp(rotation)
    expected = rodrigues(rotation)
    np.testing.assert_allclose(to_matrix(quat), expected, atol=3e-6)
    np.testing.assert_allclose(rotate(quat, vec), expected @ np.asarray(vec), atol=2e-5)
    np.testing.assert_allclose(rotate_inverse(quat, rotate(quat, vec)), vec, atol=2e-5)
    np.testing.assert_allclose(jnp.linalg.norm(quat), 1.0, atol=1e-6)


@laws
@given(vectors, vectors)
def test_product_is_composition(first, second):
    product = to_matrix(multiply(exp(second), exp(first)))
    np.testing.assert_allclose(product, rodrigues(second) @ rodrigues(first), atol=5e-6)


def test_yaw_turns_the_nose_left():
    nose = quaternion.rotate(quaternion.from_yaw(jnp.float32(0.5 * jnp.pi)), jnp.array((1.0, 0.0, 0.0)))
    np.testing.assert_allclose(nose, (0.0, 1.0, 0.0), atol=1e-6)


def test_integrate_is_exact_at_a_constant_rate():
    omega_b = jnp.array((3.0, -2.0, 5.0))
    start = quaternion.from_yaw(jnp.float32(0.3))
    once = quaternion.integrate(start, omega_b, 0.2)
    twice = quaternion.integrate(quaternion.integrate(start, omega_b, 0.1), omega_b, 0.1)
    np.testing.assert_allclose(once, twice, atol=1e-6)


def test_exp_is_smooth_through_zero():
    jacobian = jax.jacobian(quaternion.exp)(jnp.zeros(3))
    np.testing.assert_allclose(jacobian, np.vstack((np.zeros(3), 0.5 * np.eye(3))), atol=1e-7)
    for size in (0.99e-4, 1.01e-4):  # both sides of the switch to the series
        np.testing.assert_allclose(quaternion.exp(jnp.array((size, 0.0, 0.0)))[1], 0.5 * size, rtol=1e-6)


@laws
@given(vectors)
def test_a_matrix_gives_its_quaternion_back(rotation):
    quat = exp(rotation)
    found = jax.jit(quaternion.from_matrix)(to_matrix(quat))
    assert found[0] >= 0.0
    np.testing.assert_allclose(jnp.abs(jnp.vdot(found, quat)), 1.0, atol=2e-6)
    np.testing.assert_allclose(to_matrix(found), to_matrix(quat), atol=3e-6)


def test_half_turns_have_a_quaternion_too():
    for diagonal in ((1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
        matrix = jnp.diag(jnp.array(diagonal, jnp.float32))
        np.testing.assert_allclose(to_matrix(quaternion.from_matrix(matrix)), matrix, atol=1e-6)
