"""What Gymnasium's spaces become, with numbers worked out by hand."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from s5wm.actions import Box, Discrete, MultiDiscrete
from s5wm.envs.adapters.gymnasium import seen, spec_of
from s5wm.envs.adapters.observations import batched, read_observations, resized
from s5wm.envs.adapters.spaces import read_actions
from s5wm.errors import ConfigError

BOX = spaces.Box(-1.0, 1.0, (2,), np.float64)


def read(space: spaces.Space, *samples):
    """One by one, and as a vector environment has them."""
    found = read_observations(space)
    batch = concatenate(space, samples, create_empty_array(space, len(samples)))
    whole = seen(found, batch, len(samples))
    jax.tree.map(
        lambda many, *each: np.testing.assert_array_equal(many, np.stack(each)),
        whole,
        *[seen(found, each, None) for each in samples],
    )
    spec = spec_of(None, found, Discrete(2))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), whole) == jax.tree.map(
        lambda x: (x.shape, x.dtype), spec.zero_obs(len(samples))
    )
    return spec, whole


def test_parts_become_one_vector() -> None:
    space = spaces.Dict(
        {"b": spaces.Discrete(3, start=-1), "a": BOX, "c": spaces.Tuple([spaces.MultiBinary(2)])}
    )
    samples = [
        {"b": np.int64(0), "a": np.array([0.5, -0.5]), "c": (np.array([1, 0], np.int8),)},
        {"b": np.int64(-1), "a": np.array([0.25, 1.0]), "c": (np.array([0, 1], np.int8),)},
    ]
    found, whole = read(space, *samples)
    order = list(space.spaces)
    parts = {"a": [0.5, -0.5], "b": [0, 1, 0], "c": [1, 0]}
    assert found.obs_shape == (7,) and found.obs_dtype == np.float32
    assert whole[0].tolist() == [x for name in order for x in parts[name]]


def test_choices_become_one_hots() -> None:
    _, whole = read(spaces.MultiDiscrete([2, 3], start=[0, 5]), np.array([1, 7]), np.array([0, 5]))
    assert whole.tolist() == [[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]]


EYE = spaces.Box(0, 255, (48, 32, 3), np.uint8)


def test_an_image_keeps_the_numbers_beside_it() -> None:
    space = spaces.Dict({"eye": EYE, "a": BOX, "deep": spaces.Dict({"mode": spaces.Discrete(2)})})
    samples = [
        {"eye": np.full(EYE.shape, k, np.uint8), "a": np.array([k, 0.5]), "deep": {"mode": np.int64(k)}}
        for k in range(2)
    ]
    spec, whole = read(space, *samples)
    assert spec.obs_shape == (48, 32, 3) and spec.vector_size == 4
    assert whole.image[1].min() == whole.image[1].max() == 1
    order = [{"a": [1.0, 0.5], "deep": [0.0, 1.0], "eye": []}[name] for name in space.spaces]
    assert whole.vector[1].tolist() == [x for part in order for x in part]


def test_images_lie_behind_each_other_in_one_size() -> None:
    depth = spaces.Box(0, 255, (96, 96), np.uint8)
    space = spaces.Dict({"depth": depth, "eye": EYE})
    sample = {"depth": np.full(depth.shape, 7, np.uint8), "eye": np.full(EYE.shape, 9, np.uint8)}
    spec, whole = read(space, sample)
    assert spec.obs_shape == (64, 64, 4) and spec.vector_size == 0
    assert whole[0, 5, 5].tolist() == [7, 9, 9, 9]
    same = spaces.Tuple([EYE, EYE])
    spec, whole = read(same, (np.full(EYE.shape, 1, np.uint8), np.full(EYE.shape, 2, np.uint8)))
    assert spec.obs_shape == (48, 32, 6) and whole[0, 0, 0].tolist() == [1, 1, 1, 2, 2, 2]


def test_privileged_keys_are_hidden_from_the_policy() -> None:
    space = spaces.Dict({"eye": EYE, "state": BOX, "mode": spaces.Discrete(3)})
    found = read_observations(space, ("state", "mode"))
    spec = spec_of(SimpleNamespace(metadata={}), found, Discrete(2))
    assert (spec.obs_shape, spec.vector_size, spec.privileged_size) == ((48, 32, 3), 0, 5)
    sample = {"eye": np.ones(EYE.shape, np.uint8), "state": np.array([0.25, -1.0]), "mode": np.int64(2)}
    assert found.privileged is not None
    assert found.privileged.read(batched(sample))[0].tolist() == [0.25, -1.0, 0.0, 0.0, 1.0]
    at_work = {"eye": sample["eye"]}  # where it acts, nobody knows the state
    np.testing.assert_array_equal(seen(found, at_work, None), sample["eye"])


@pytest.mark.parametrize(
    ("space", "names", "said"),
    [
        (BOX, ("state",), "which is Box"),
        (spaces.Dict({"a": BOX, "b": BOX}), ("c",), r"no key of its observation \(a, b\)"),
        (spaces.Dict({"a": BOX}), ("a",), "leaves nothing"),
        (spaces.Dict({"a": BOX, "eye": EYE}), ("eye",), "holds an image"),
    ],
)
def test_keys_that_cannot_be_privileged_are_named(space: spaces.Space, names, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_observations(space, names)


@pytest.mark.parametrize(
    ("shape", "shown"), [((48, 32, 3), (48, 32, 3)), ((3, 48, 32), (48, 32, 3)), ((48, 32), (48, 32, 1))]
)
def test_images_have_their_channels_last(shape: tuple[int, ...], shown: tuple[int, ...]) -> None:
    space = spaces.Box(0, 255, shape, np.uint8)
    sample = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    found, whole = read(space, sample)
    assert found.obs_shape == shown and found.obs_dtype == np.uint8
    turned = np.moveaxis(sample, 0, -1) if shape[0] == 3 else sample.reshape(shown)
    np.testing.assert_array_equal(whole[0], turned)


@pytest.mark.parametrize(
    ("shape", "axes", "shown"),
    [
        ((4, 48, 32, 3), (1, 2, 0, 3), (48, 32, 12)),  # a stack of colour pictures, frame after frame
        ((4, 3, 48, 32), (2, 3, 0, 1), (48, 32, 12)),
        ((4, 48, 32, 1), (1, 2, 0, 3), (48, 32, 4)),
        ((48, 32, 3, 4), (0, 1, 2, 3), (48, 32, 12)),
        ((40, 48, 32, 3), (1, 2, 0, 3), (48, 32, 120)),  # more frames than the least side
        ((2, 4, 48, 32, 3), (2, 3, 0, 1, 4), (48, 32, 24)),  # two cameras
    ],
)
def test_frames_of_a_stack_are_channels(
    shape: tuple[int, ...], axes: tuple[int, ...], shown: tuple[int, ...]
) -> None:
    sample = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found, whole = read(spaces.Box(0, 255, shape, np.uint8), sample)
    assert found.obs_shape == shown and found.obs_dtype == np.uint8
    np.testing.assert_array_equal(whole[0], sample.transpose(axes).reshape(shown))


@pytest.mark.parametrize("pixel", [0.5, 1.0, float("nan"), -1, 256])
def test_pixels_that_may_mean_something_else_are_refused(pixel: float) -> None:
    found = read_observations(EYE)
    with pytest.raises(ConfigError, match="whole numbers from 0 to 255"):
        seen(found, np.full(EYE.shape, pixel), None)


@pytest.mark.parametrize(("pixel", "dtype"), [(200, np.int64), (True, bool), (255, np.uint16)])
def test_whole_numbers_of_any_kind_are_pixels(pixel: int, dtype: type) -> None:
    shown = seen(read_observations(EYE), np.full(EYE.shape, pixel, dtype), None)
    assert shown.dtype == np.uint8 and (shown == int(pixel)).all()


@pytest.mark.parametrize(
    ("space", "chosen"),
    [
        (spaces.Discrete(3, start=1), 0),  # NumPy would count it from the end
        (spaces.Discrete(3, start=1), 4),
        (spaces.Discrete(3), 0.5),
        (spaces.MultiDiscrete([2, 3]), np.array([0, -1])),
    ],
)
def test_choices_that_the_space_lacks_are_refused(space: spaces.Space, chosen) -> None:
    with pytest.raises(ConfigError, match="which its space does not hold"):
        seen(read_observations(space), chosen, None)


def test_images_of_other_sizes_are_resized() -> None:
    space = spaces.Box(0, 255, (96, 192, 1), np.uint8)
    sample = np.zeros((96, 192, 1), np.uint8)
    sample[:, 96:] = 200
    found, whole = read(space, sample)
    assert found.obs_shape == (64, 64, 1)
    assert (whole[0, :, :32] == 0).all() and (whole[0, :, 32:] == 200).all()
    few = resized(np.arange(32 * 32, dtype=np.uint8).reshape(1, 32, 32, 1))
    assert few[0, 5, 7, 0] == (2 * 32 + 3) % 256


def test_small_arrays_of_bytes_are_vectors() -> None:
    found, _ = read(spaces.Box(0, 255, (4, 4), np.uint8), np.ones((4, 4), np.uint8))
    assert found.obs_shape == (16,) and found.obs_dtype == np.float32


@pytest.mark.parametrize(
    ("space", "spec"),
    [
        (spaces.Discrete(4, start=2), Discrete(4)),
        (spaces.MultiDiscrete([[2, 3], [4, 2]]), MultiDiscrete((2, 3, 4, 2))),
        (spaces.MultiBinary(3), MultiDiscrete((2, 2, 2))),
        (spaces.Box(-2.0, 2.0, (1,), np.float32), Box((1,), low=-2.0, high=2.0)),
        (
            spaces.Box(np.array([0.0, -1.0]), np.array([1.0, 1.0]), dtype=np.float64),
            Box((2,), low=(0.0, -1.0), high=(1.0, 1.0)),
        ),
    ],
)
def test_whatever_an_agent_chooses_is_in_the_space(space: spaces.Space, spec) -> None:
    found, given = read_actions(space)
    assert found == spec
    vectors = np.random.default_rng(0).normal(size=(64, spec.width)).astype(np.float32)
    actions = given(np.asarray(found.decode(jnp.asarray(vectors))))
    assert batch_space(space, 64).shape in (None, np.shape(actions))
    assert all(space.contains(each) for each in iterate(batch_space(space, 64), actions))


def test_the_first_choice_is_where_the_space_begins() -> None:
    _, given = read_actions(spaces.Discrete(3, start=5))
    assert given(np.array([0, 2], np.int32)).tolist() == [5, 7]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.Text(5), "its observation is Text"),
        (spaces.Dict({"a": BOX, "b": spaces.Sequence(BOX)}), "its observation, b, is Sequence"),
    ],
)
def test_what_no_agent_can_read_is_named(space: spaces.Space, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_observations(space)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.Box(-np.inf, np.inf, (2,), np.float32), "finite bounds"),
        (spaces.Box(0, 9, (2,), np.int32), "its action is Box of int32"),
        (spaces.Dict({"a": BOX}), "its action is Dict"),
        (spaces.Discrete(1), "its action: "),
        (spaces.MultiDiscrete([3, 1]), "its action: "),
    ],
)
def test_what_no_agent_can_choose_is_named(space: spaces.Space, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_actions(space)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.5, 0.7, (1,), np.float32),
        spaces.Box(-0.4, 0.4, (1,), np.float64),
        spaces.Box(np.array([0.0, -3.3]), np.array([0.1, 7.7]), dtype=np.float64),
    ],
)
def test_the_largest_and_smallest_actions_are_of_the_space(space: spaces.Box) -> None:
    spec, give = read_actions(space)
    for vector in (1.0, -1.0):
        assert space.contains(give(np.asarray(spec.decode(jnp.full((1, spec.width), vector))))[0])


def test_bounds_whose_difference_is_not_a_number_are_refused() -> None:
    largest = float(np.finfo(np.float32).max)
    with pytest.raises(ConfigError, match="finite bounds"):
        read_actions(spaces.Box(-largest, largest, (1,), np.float32))


def test_an_environment_names_the_numbers_of_its_observation() -> None:
    def spec_with(names: list[str], space: spaces.Space = BOX):
        env = SimpleNamespace(metadata={"obs_names": names, "render_fps": 20})
        return spec_of(env, read_observations(space), Discrete(2))

    assert spec_with(["place", "speed"]).obs_names == ("place", "speed")
    assert spec_with(["place", "speed"]).ctrl_dt == 0.05
    assert spec_with([]).obs_names == ()
    mixed = spaces.Dict({"sight": spaces.Box(0, 255, (32, 32, 3), np.uint8), "numbers": BOX})
    assert spec_with(["place", "speed"], mixed).obs_names == ("place", "speed")
    assert spec_with(["place", "speed"], EYE).obs_names == ()  # a picture of what has them
    with pytest.raises(
        ConfigError, match="its metadata: obs_names has 1 names, and the observation 2 numbers"
    ):
        spec_with(["place"])
