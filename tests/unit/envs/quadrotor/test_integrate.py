import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.envs.quadrotor.integrate import delayed, fly, fly_rk4, held
from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.quadrotor.state import QuadState, hover_state

PARAMS = QuadConfig().build()
DATA = Path(__file__).parents[3] / "data" / "racing_controls.npz"
START = hover_state(PARAMS, jnp.array((0.0, 0.0, 2.0)), jnp.float32(0.0))


def as_double(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


def flown(integrator, params, state, actions, substeps):
    """Positions after every action."""

    def step(state, action):
        after = integrator(params, state, held(action, substeps))
        return after, after.pos_w

    return jax.lax.scan(step, state, actions)[1]


def test_training_integrator_within_1_cm_after_1_s_of_racing():
    # time-optimal Split-S, rates and thrust as CTBR at 50 Hz, from 30 points of the lap
    data = np.load(DATA)
    state = QuadState(**{name: jnp.asarray(data[name]) for name in data.files if name != "actions"})
    actions = jnp.asarray(data["actions"])
    batched = jax.jit(jax.vmap(flown, in_axes=(None, None, 0, 0, None)), static_argnums=(0, 4))
    trained = batched(fly, PARAMS, state, actions, 10)
    with jax.enable_x64(True):
        reference = batched(fly_rk4, as_double(PARAMS), as_double(state), as_double(actions), 80)
    error = np.linalg.norm(np.asarray(trained) - np.asarray(reference), axis=-1)
    assert actions.shape == (30, 50, 4)
    assert error.max() < 0.01
    # the controls race: 15 m/s on average, near full thrust, near full rates
    assert np.linalg.norm(np.diff(reference, axis=1), axis=-1).mean() / 0.02 > 10.0


@pytest.mark.parametrize(("integrator", "order"), [(fly, 3), (fly_rk4, 4)])
def test_order_of_convergence(integrator, order):
    # gentle enough to keep the rotors off their limits, where no order above two is to be had
    with jax.enable_x64(True):
        params, state = as_double(PARAMS), as_double(START)
        state = eqx.tree_at(lambda s: s.vel_w, state, jnp.array((8.0, 3.0, -2.0)))
        action = jnp.array((0.1, 0.05, -0.08, 0.1))
        run = jax.jit(lambda commands: integrator(params, state, commands, dt=0.2))
        exact = jax.jit(lambda commands: fly_rk4(params, state, commands, dt=0.2))(held(action, 800))
        errors = [
            np.sqrt(
                sum(
                    float(jnp.sum((a - b) ** 2))
                    for a, b in zip(*map(jax.tree.leaves, (end, exact)), strict=True)
                )
            )
            for end in (run(held(action, count)) for count in (20, 40, 80))
        ]
    measured = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(measured, order, atol=0.35)


def adversarial_actions(state, step, corners, noise):
    """[64, 4] per step: every corner held, corners flipped at random, noise, and positive feedback."""
    flips = jnp.roll(corners, step * 7, axis=0) * jnp.where((step // 3) % 2 == 0, 1.0, -1.0)
    towards = jnp.sign(jnp.concatenate((-state.vel_w[48:, 2:], state.omega_b[48:]), axis=1) + 0.5 * noise)
    return jnp.concatenate((corners, flips, noise, towards))


@jax.jit
def abused(params, key):
    """Extremes over 20 s of 64 copies."""
    corners = jnp.stack(jnp.meshgrid(*[jnp.array((-1.0, 1.0))] * 4), axis=-1).reshape(16, 4)
    start = hover_state(params, jnp.zeros(3), jnp.float32(0.3))
    start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (64, *leaf.shape)), start)

    def step(state, inputs):
        index, key = inputs
        noise = jr.uniform(key, (16, 4), minval=-1.0, maxval=1.0)
        actions = adversarial_actions(state, index, corners, noise)
        state = jax.vmap(lambda s, a: fly(params, s, held(a)))(state, actions)
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state)]))
        norm = jnp.max(jnp.abs(jnp.linalg.norm(state.quat, axis=-1) - 1.0))
        fastest = jnp.max(jnp.abs(state.omega_b)), jnp.max(jnp.abs(state.vel_w))
        return state, (finite, norm, *fastest, jnp.min(state.rotor_speed), jnp.max(state.rotor_speed))

    return jax.lax.scan(step, start, (jnp.arange(1000), jr.split(key, 1000)))[1]


@pytest.mark.parametrize(
    "config", [QuadConfig(), QuadConfig(name="kolibri"), QuadConfig(thrust_to_weight=2.5)]
)
def test_twenty_seconds_of_any_action_stay_finite(config):
    params = config.build()
    finite, norm, omega, speed, slowest, quickest = abused(params, jr.key(0))
    assert bool(jnp.all(finite))
    assert float(norm.max()) < 1e-6
    assert float(omega.max()) < 30.0
    assert float(speed.max()) < 200.0
    assert float(slowest.min()) > float(params.rotor_speed_min) - 1.0
    assert float(quickest.max()) < float(jnp.sqrt(params.thrust_max / params.thrust_coeff)) * 1.001


def test_delay_holds_the_previous_action():
    old, new = jnp.array((0.2, 0.5, 0.0, 0.0)), jnp.array((-0.3, -0.5, 0.2, 0.0))
    short = jax.jit(lambda state, action: fly(PARAMS, state, held(action, 5), dt=0.01))
    half = short(short(START, old), new)
    together = jax.jit(fly)(PARAMS, START, delayed(old, new, 5))
    for a, b in zip(jax.tree.leaves(half), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(delayed(old, new, 0), held(new))
    np.testing.assert_array_equal(delayed(old, new, jnp.int32(10)), held(old))


def test_gradients_are_right_and_finite_at_the_limits():
    def height(action, params, state):
        return jnp.sum(fly(params, state, held(action)).vel_w * jnp.array((1.0, 2.0, 3.0)))

    with jax.enable_x64(True):
        params, state, action = as_double(PARAMS), as_double(START), jnp.array((0.1, 0.05, -0.03, 0.04))
        slope = jax.jit(jax.grad(height, argnums=(0, 1, 2)))
        offset = 1e-5 * jnp.concatenate((jnp.eye(4), -jnp.eye(4)))
        ends = jax.jit(jax.vmap(height, in_axes=(0, None, None)))(action[None] + offset, params, state)
        got, *_ = slope(action, params, state)
        np.testing.assert_allclose(got, (ends[:4] - ends[4:]) / 2e-5, rtol=1e-5, atol=1e-8)
        for limit in (jnp.ones(4), -jnp.ones(4), jnp.array((1.0, -1.0, 1.0, -1.0)), jnp.zeros(4)):
            for leaf in jax.tree.leaves(slope(limit, params, state)):
                assert jnp.all(jnp.isfinite(leaf))


def test_copies_may_differ_in_parameters():
    light = eqx.tree_at(lambda p: p.mass, PARAMS, 0.9 * PARAMS.mass)
    both = jax.tree.map(lambda a, b: jnp.stack((a, b)), PARAMS, light)
    ends = jax.jit(jax.vmap(fly, in_axes=(0, None, None)))(both, START, held(jnp.zeros(4)))
    alone = jax.jit(fly)(light, START, held(jnp.zeros(4)))
    np.testing.assert_allclose(ends.vel_w[1], alone.vel_w, rtol=1e-5, atol=1e-6)
    assert ends.vel_w[1, 2] > ends.vel_w[0, 2]


def test_state_is_a_fixed_point_of_fly():
    after = jax.eval_shape(lambda s: fly(PARAMS, s, held(jnp.zeros(4))), START)
    for before, leaf in zip(jax.tree.leaves(START), jax.tree.leaves(after), strict=True):
        assert (before.shape, before.dtype, before.weak_type) == (leaf.shape, leaf.dtype, leaf.weak_type)


def test_throughput(well_compiled):
    # far below what an idle machine does, far above what an unrolled or unfused step would
    start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (256, *leaf.shape)), START)
    actions = jr.uniform(jr.key(0), (50, 256, 4), minval=-1.0, maxval=1.0)

    @jax.jit
    def many(state, actions):
        step = jax.vmap(lambda s, a: fly(PARAMS, s, held(a)))
        return jax.lax.scan(lambda s, a: (step(s, a), None), state, actions)[0]

    jax.block_until_ready(many(start, actions))
    best = np.inf
    for _ in range(3):
        begin = time.process_time()
        jax.block_until_ready(many(start, actions))
        best = min(best, time.process_time() - begin)
    assert actions.shape[0] * 256 / best > 50_000
