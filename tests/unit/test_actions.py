import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s5wm.actions import Box, Discrete, MultiDiscrete, _as_whole


def test_numbers_are_scaled_between_their_bounds() -> None:
    spec = Box((2, 2), low=(-2.0, 0.0, 10.0, -1.0), high=(2.0, 1.0, 20.0, 1.0))
    assert spec.width == 4
    decoded = spec.decode(jnp.array([-1.0, 0.0, 1.0, 0.5]))
    np.testing.assert_allclose(decoded, [[-2.0, 0.5], [20.0, 0.5]])
    np.testing.assert_allclose(spec.encode(decoded), [-1.0, 0.0, 1.0, 0.5])


def test_what_lies_outside_is_clipped_and_what_is_no_number_is_the_middle() -> None:
    given = jnp.array([jnp.nan, jnp.inf, -jnp.inf, 0.5, -3.0])
    assert Box((5,)).decode(given).tolist() == [0.0, 1.0, -1.0, 0.5, -1.0]
    assert Box((5,), low=0.0, high=4.0).decode(given).tolist() == [2.0, 4.0, 0.0, 3.0, 0.0]


@given(low=st.floats(-3.0, 3.0), span=st.floats(0.05, 3.0), place=st.sampled_from([-1.0, 1.0]))
@example(low=-0.97, span=1.07, place=1.0)
def test_rounding_leaves_no_bounds(low: float, span: float, place: float) -> None:
    spec = Box((3,), low=(low, 0.1 * low, -1.0), high=(low + span, 0.1 * low + span, 1.0))
    bounds = [np.asarray(bound, np.float32) for bound in spec.bounds]
    decoded = np.asarray(spec.decode(jnp.full(3, place)))
    assert (bounds[0] <= decoded).all() and (decoded <= bounds[1]).all()
    np.testing.assert_allclose(decoded, bounds[int(place > 0)], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [(), (3,)])
def test_choices_go_through_one_hots_and_back(rows: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    one, several = Discrete(4), MultiDiscrete((2, 5, 3))
    choice = generator.integers(4, size=rows)
    np.testing.assert_array_equal(one.decode(jnp.asarray(one.encode(choice))), choice)
    choices = np.stack([generator.integers(n, size=rows) for n in several.groups], axis=-1)
    vector = several.encode(choices)
    assert vector.shape == (*rows, 10) and vector.sum(-1).tolist() == np.full(rows, 3.0).tolist()
    np.testing.assert_array_equal(several.decode(jnp.asarray(vector)), choices)


@pytest.mark.parametrize("spec", [Box((3,), low=0.0, high=2.0), Discrete(3), MultiDiscrete((2, 3))])
def test_the_blank_action_has_the_form_of_any_other(spec: Box | Discrete | MultiDiscrete) -> None:
    decoded = spec.decode(jnp.zeros(spec.width))
    assert (spec.blank().shape, spec.blank().dtype) == (decoded.shape, decoded.dtype)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Box((1,), high=np.inf), "finite bounds"),
        (lambda: Box((2,), low=(0.0, 1.0), high=1.0), "low below high"),
        (lambda: Discrete(1), "from 2 on"),
        (lambda: MultiDiscrete((3, 1)), "at least 2"),
    ],
)
def test_what_nobody_could_choose_from_is_refused(make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_bounds_and_choices_may_be_lists_and_arrays() -> None:
    boxes = [
        Box((2,), low=low, high=high)
        for low, high in (((0.0, -1.0), (1.0, 1.0)), ([0.0, -1.0], 1.0), (np.array([0.0, -1.0]), np.ones(2)))
    ]
    assert boxes[0] == Box((2,), low=np.array([[0.0, -1.0]]), high=jnp.ones(2))
    assert boxes[2] == boxes[0] and hash(boxes[2]) == hash(boxes[0])
    assert boxes[1].low == boxes[0].low and hash(boxes[1]) == hash(Box((2,), low=(0.0, -1.0), high=1.0))
    assert Box(low=np.float32(-2.0), high=np.array(2)) == Box(low=-2.0, high=2.0)
    assert _as_whole(np.array([2, 3])) == _as_whole([2, 3]) == (2, 3)  # of shapes and groups
    assert jax.jit(boxes[2].decode)(jnp.zeros(2)).tolist() == [0.5, 0.0]
    with pytest.raises(ValueError, match="low of Box has 3 numbers for an action of 2"):
        Box((2,), low=np.zeros(3))
