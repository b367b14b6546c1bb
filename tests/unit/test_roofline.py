import jax
import jax.numpy as jnp
import pytest

from s5wm.bench.roofline import Ceilings, Work, measure_ceilings, work_of

LEFT, RIGHT = jnp.ones((3, 5)), jnp.ones((5, 7))
PRODUCT = Work(2.0 * 3 * 5 * 7, 4.0 * (3 * 5 + 5 * 7 + 3 * 7))


def test_a_product_is_counted() -> None:
    assert work_of(lambda a, b: jnp.tanh(a @ b) + 1.0, LEFT, RIGHT) == PRODUCT


def test_batches_count_in_full() -> None:
    batch = jnp.ones((4, 3, 5))
    assert work_of(jax.vmap(lambda a: a @ RIGHT), batch).flops == 4 * PRODUCT.flops


def test_loops_count_as_often_as_they_turn() -> None:
    def loop(a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda c, _: (c + (a @ b).sum(), None), jnp.zeros(()), length=11)[0]

    assert work_of(loop, LEFT, RIGHT) == PRODUCT.times(11)
    assert work_of(jax.jit(loop), LEFT, RIGHT) == PRODUCT.times(11)


def test_a_gradient_costs_two_more_products() -> None:
    square = jnp.ones((6, 6))
    forward = work_of(lambda a: (a @ square).sum(), square).flops
    both = work_of(jax.grad(lambda a, b: jnp.square(a @ b).sum(), argnums=(0, 1)), square, square).flops
    assert both == 3 * forward


def test_the_costliest_branch_counts() -> None:
    def branch(flag: jax.Array) -> jax.Array:
        return jax.lax.cond(flag, lambda: (LEFT @ RIGHT).sum(), lambda: jnp.zeros(()))

    assert work_of(branch, jnp.asarray(True)) == PRODUCT


def test_convolutions_count_their_kernel() -> None:
    image, kernel = jnp.ones((1, 2, 8, 8)), jnp.ones((4, 2, 3, 3))
    work = work_of(lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME"), image, kernel)
    assert work.flops == 2 * (4 * 8 * 8) * (2 * 3 * 3)


def test_unknown_turns_are_refused() -> None:
    with pytest.raises(ValueError, match="while loop"):
        work_of(lambda x: jax.lax.while_loop(lambda c: c < 10.0, lambda c: c + 1.0, x), jnp.zeros(()))


def test_the_slower_of_the_two_ceilings_bounds() -> None:
    ceilings = Ceilings(flops_per_s=1e9, bytes_per_s=1e6)
    assert ceilings.bound_ms(Work(2e9, 1e6)) == 2000.0
    assert ceilings.bound_ms(Work(1e6, 5e6)) == 5000.0


def test_ceilings_are_those_of_a_machine() -> None:
    found = measure_ceilings(width=256, megabytes=8)
    assert found.flops_per_s > 1e8
    assert found.bytes_per_s > 1e8
