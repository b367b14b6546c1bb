"""Laws of PPO's actors: a segment equals folding the call, and a reset forgets what came before."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.actions import Box
from s5wm.agents.ppo.actor import ActorSizes, FrameStackConfig, S5MemoryConfig, TanhMLP, build_actor
from s5wm.nn.conv import PatchConfig
from s5wm.nn.s5 import S5Config
from s5wm.types import EnvSpec, MixedObs

VECTORS = EnvSpec(
    (5,), np.dtype(np.float32), privileged_size=3, action=Box((2,)), ctrl_dt=0.02, has_smoothing=True
)
IMAGES = EnvSpec(
    (8, 8, 3), np.dtype(np.uint8), privileged_size=3, action=Box((2,)), ctrl_dt=0.02, has_smoothing=True
)
BOTH = replace(IMAGES, vector_size=2)
S5_MEMORY = S5MemoryConfig(core=S5Config(width=8, state_size=8, block_size=4, layers=2, dt_max=1.0), rows=4)
SIZES = ActorSizes(hidden=(8,), image=PatchConfig(patch=2, depth=2, multipliers=(1, 2)))
ROWS = 7
FIRST = jnp.array([False, False, True, False, False, True, True])


@pytest.fixture(scope="module", params=[None, FrameStackConfig(), S5_MEMORY], ids=["none", "stack", "s5"])
def memory(request):
    return request.param


@pytest.fixture(scope="module", params=[VECTORS, IMAGES, BOTH], ids=["vectors", "images", "both"])
def lab(request, memory):
    """An actor, observations, and a memory from before them."""
    spec, (k_actor, k_obs, k_before) = request.param, jr.split(jr.key(0), 3)
    actor = jax.jit(lambda k: build_actor(memory, SIZES, spec, key=k))(k_actor)
    actor = eqx.tree_at(
        lambda a: (
            (a.network.head if spec.has_images else a.network).weights[-1]
            if hasattr(a, "network")
            else a.head.weights[-1]
        ),
        actor,
        replace_fn=lambda w: 100 * w,
    )
    obs, before = observations(spec, k_obs), observations(spec, k_before)
    carry = fold(actor, actor.initial(), before, jnp.arange(ROWS) == 0)[0]
    return actor, carry, obs


def observations(spec, key):
    k_image, k_vector = jr.split(key)
    image = jr.randint(k_image, (ROWS, *spec.obs_shape), 0, 256).astype(jnp.uint8)
    if spec.vector_size:
        return MixedObs(image, jr.normal(k_vector, (ROWS, spec.vector_size)))
    return image if spec.has_images else jr.normal(k_vector, (ROWS, *spec.obs_shape))


def rows_of(obs, rows):
    return jax.tree.map(lambda x: x[rows], obs)


@eqx.filter_jit
def fold(actor, carry, obs, is_first):
    return jax.lax.scan(lambda c, row: actor(c, *row), carry, (obs, is_first))


@eqx.filter_jit
def segment(actor, carry, obs, is_first):
    return actor.segment(carry, obs, is_first)


def test_a_segment_equals_acting_step_by_step(lab):
    actor, carry, obs = lab
    means = segment(actor, carry, obs, FIRST)
    np.testing.assert_allclose(means, fold(actor, carry, obs, FIRST)[1], rtol=1e-4, atol=1e-5)
    assert means.std(axis=0).min() > 1e-3


def test_a_segment_can_begin_at_any_row(lab):
    """With the memory that was stored beside it."""
    actor, carry, obs = lab
    whole = segment(actor, carry, obs, FIRST)
    for row in (1, 3):
        before, after = slice(None, row), slice(row, None)
        stored, _ = fold(actor, carry, rows_of(obs, before), FIRST[before])
        np.testing.assert_allclose(
            segment(actor, stored, rows_of(obs, after), FIRST[after]), whole[after], rtol=1e-4, atol=1e-5
        )


def test_a_reset_forgets_and_before_it_the_past_matters(lab, memory):
    actor, carry, obs = lab
    means = segment(actor, carry, obs, FIRST)
    past = jax.tree.map(lambda x: x[::-1] + jnp.ones((), x.dtype), carry)
    repeated = jax.tree.map(lambda x: x.at[1].set(x[0]), obs)
    moved = segment(actor, past, repeated, FIRST)
    np.testing.assert_array_equal(means[2:], moved[2:])
    changes = np.abs(means - moved).max(axis=-1)
    assert changes[1] > 1e-5
    assert (changes[0] > 1e-5) == (memory is not None)


def test_a_stack_shows_the_frames_in_order_and_repeats_the_first():
    actor = build_actor(FrameStackConfig(), SIZES, VECTORS, key=jr.key(0))

    class Look(TanhMLP):
        def __init__(self):
            self.weights, self.biases = (), ()

        def __call__(self, x):
            return x

    actor = eqx.tree_at(lambda a: a.network, actor, Look())
    obs = jnp.repeat(jnp.arange(4.0)[:, None], 5, axis=1)
    seen = actor.segment(actor.initial(), obs, jnp.arange(4) == 0)[:, ::5]
    np.testing.assert_array_equal(seen, [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]])
