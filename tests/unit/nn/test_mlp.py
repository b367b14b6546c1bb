import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.nn.mlp import MLP, Products, Trunk


def test_products_are_those_of_two_linear_maps():
    products = Products(3, 2, key=jr.key(0))
    x = np.array([0.5, -1.0, 2.0])
    left, right = np.split(np.asarray(products.linear.weight, np.float64), 2)
    np.testing.assert_allclose(products(jnp.asarray(x)), (left @ x) * (right @ x), rtol=1e-5)


def test_an_mlp_with_products_can_say_what_is_quadratic():
    """``y = x_1 x_2``, by the linear path around its layers alone."""
    mlp = MLP((2, 4), 1, key=jr.key(0), out_scale=0.0, skip=True, products=True)
    select = jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    mlp = eqx.tree_at(
        lambda m: (m.products.linear.weight, m.skip.weight),
        mlp,
        (select, jnp.array([[0.0, 0.0, 1.0, 0.0]])),
    )
    x = jnp.array([[3.0, -2.0], [0.5, 4.0]])
    np.testing.assert_allclose(mlp(x)[:, 0], [-6.0, 2.0], rtol=1e-6)


def test_a_trunk_ends_in_an_activation():
    """SiLU is never below -0.2785, whatever comes in; a linear map would be."""
    trunk = Trunk((3, 8, 8), key=jr.key(0))
    out = trunk(100.0 * jr.normal(jr.key(1), (64, 3)))
    assert out.shape == (64, 8)
    assert float(out.min()) > -0.2785
    assert float(out.max()) > 1.0


@pytest.mark.parametrize("products", [False, True])
def test_axes_in_front_are_free(products):
    mlp = MLP((3, 4), 2, key=jr.key(0), skip=True, products=products)
    x = jr.normal(jr.key(1), (5, 6, 3))
    np.testing.assert_allclose(mlp(x)[2, 3], mlp(x[2, 3]), rtol=1e-5, atol=1e-6)
