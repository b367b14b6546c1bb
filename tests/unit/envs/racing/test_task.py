"""The race as an environment: endings, rewards, what outlives an episode, and speed."""

import time
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.envs.quadrotor import bodyrate
from s5wm.envs.racing.camera import off_axis
from s5wm.envs.racing.laps import MAX_LAPS, NO_TIME, Ending, FlightRecord, pass_first_gate, started_clock
from s5wm.envs.racing.reward import RewardConfig
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.wrappers import AutoReset

KEY = jr.key(1)
IDLE = jnp.array([-1.0, 0.0, 0.0, 0.0])


def changed(tree, **fields):
    """A copy of a module with some fields replaced."""
    return type(tree)(**{**{name: getattr(tree, name) for name in tree.__dataclass_fields__}, **fields})


def hover(race):
    trim = bodyrate.Setpoint(collective=race.env.params.weight, omega_b=jnp.zeros(3))
    return bodyrate.unscale(race.env.params, trim)


def at_gate(race, gate, velocity, *, ahead=-0.1, y=0.0):
    """A state near a gate, ``ahead`` of its plane, moving along its direction of passing."""
    track = race.env.track
    normal = track.normal[gate]
    pos = track.gate_pos[gate] + ahead * normal + y * track.left[gate]
    state = race.hovering(tuple(np.asarray(pos).tolist()), float(track.gate_yaw[gate]))
    return changed(
        state,
        quad=changed(state.quad, vel_w=velocity * normal),
        target=jnp.asarray(gate, jnp.int32),
    )


def test_reset_begins_an_episode(race):
    state, timestep = race.reset(jr.key(3))
    assert timestep.obs.shape == race.env.spec.obs_shape == (24,)
    assert timestep.privileged.shape == (race.env.spec.privileged_size,) == (40,)
    assert bool(timestep.is_first) and not bool(timestep.is_last | timestep.is_terminal)
    assert float(timestep.reward.nominal) == float(timestep.reward.smoothing) == 0.0
    np.testing.assert_allclose(state.action, hover(race), atol=1e-6)


def test_states_and_time_steps_are_fixed_points(race):
    """Same shapes, dtypes and weak types out of reset, step and restart."""

    def avals(tree):
        return [leaf.aval for leaf in jax.tree.leaves(tree)]

    first = race.reset(jr.key(0))
    assert avals(race.step(first[0], IDLE, KEY)) == avals(first)
    assert avals(race.restart(first[0], KEY)) == avals(first)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(race.env))


@pytest.mark.parametrize(
    ("make", "action", "ending"),
    [
        (lambda race: at_gate(race, 1, 10.0, y=0.9), "hover", Ending.RIM_HIT),
        (lambda race: at_gate(race, 1, -10.0, ahead=0.1), "hover", Ending.WRONG_WAY),
        (lambda race: sinking(race), "idle", Ending.GROUND),
        (lambda race: race.hovering((0.0, 3.0, 6.01)), "hover", Ending.OUT_OF_BOX),
        (lambda race: race.hovering((14.01, 3.0, 2.0)), "hover", Ending.OUT_OF_BOX),
        (lambda race: spinning(race), "hover", Ending.SPIN),
        (lambda race: race.hovering((0.0, 3.0, 2.0)), "nan", Ending.NON_FINITE),
        (lambda race: stalled(race), "hover", Ending.STALLED),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_terminal_endings(race, make, action, ending):
    actions = {"hover": hover(race), "idle": IDLE, "nan": jnp.array([jnp.nan, 0.0, 0.0, 0.0])}
    state, timestep = race.step(make(race), actions[action], KEY)
    assert Ending(int(state.ending)) is ending
    assert bool(timestep.is_last) and bool(timestep.is_terminal)
    assert float(timestep.reward.nominal) < -3.0
    assert bool(race.env.flight_record(state).crash)
    for leaf in jax.tree.leaves(timestep):
        assert bool(jnp.all(jnp.isfinite(leaf)))


def spinning(race):
    state = race.hovering((0.0, 3.0, 2.0))
    return changed(state, quad=changed(state.quad, omega_b=jnp.array([100.0, 0.0, 0.0])))


def sinking(race):
    state = race.hovering((0.0, 3.0, 0.06))
    return changed(state, quad=changed(state.quad, vel_w=jnp.array([0.0, 0.0, -1.0])))


def stalled(race):
    state = race.hovering((0.0, 3.0, 2.0))
    return changed(state, stalled=jnp.asarray(149, jnp.int32), closest=jnp.asarray(0.5))


@pytest.mark.parametrize("mass", [0.0, 1e-12, jnp.nan])
def test_physics_that_blow_up_end_the_episode_finite(race, mass):
    """Also if the numbers stay just inside float32: they are squared later."""
    params = changed(race.env.params, mass=jnp.asarray(mass, jnp.float32))
    broken = changed(race.env, params=params)
    state, timestep = race.step.func(broken, race.hovering((0.0, 3.0, 2.0)), jnp.ones(4), KEY)
    assert int(state.ending) == Ending.NON_FINITE and bool(timestep.is_terminal)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(timestep))


def test_the_time_limit_truncates(race):
    state = changed(race.hovering((0.0, 3.0, 2.0)), steps=jnp.asarray(498, jnp.int32))
    state, timestep = race.step(state, hover(race), KEY)
    assert not bool(timestep.is_last)
    state, timestep = race.step(state, hover(race), KEY)
    assert bool(timestep.is_last) and not bool(timestep.is_terminal)
    assert int(state.ending) == Ending.TIME_LIMIT
    assert not bool(race.env.flight_record(state).crash)
    assert float(timestep.reward.nominal) > -0.1


def test_a_crash_on_the_limit_stays_a_crash(race):
    state = changed(at_gate(race, 1, 10.0, y=0.9), steps=jnp.asarray(499, jnp.int32))
    _, timestep = race.step(state, hover(race), KEY)
    assert bool(timestep.is_last) and bool(timestep.is_terminal)


def test_missing_a_gate_altogether_is_no_crash(race):
    state, timestep = race.step(at_gate(race, 1, 10.0, y=1.3), hover(race), KEY)
    assert not bool(timestep.is_last)
    assert int(state.target) == 1 and int(state.gates) == 0


def test_a_pass_switches_the_target_without_a_jump(race):
    """Reward and restart buffer of a pass in the middle; progress counts towards the next gate."""
    before = at_gate(race, 1, 10.0, y=0.15)
    after, timestep = race.step(before, hover(race), KEY)
    assert int(after.target) == 2 and int(after.gates) == 1
    following = race.env.track.gate_pos[2]
    was, now = (jnp.linalg.norm(following - s.quad.pos_w) for s in (before, after))
    expected = float(was - now) + (1.0 - 0.15 / 0.75)
    assert float(timestep.reward.nominal) == pytest.approx(expected, abs=2e-3)
    np.testing.assert_allclose(timestep.obs[15:18] * 10.0, following - after.quad.pos_w, atol=1e-4)
    np.testing.assert_allclose(after.buffer.states[1, 0, :3], after.quad.pos_w)
    np.testing.assert_array_equal(after.buffer.states[1, 1], before.buffer.states[1, 1])


def test_the_margin_is_that_of_the_tightest_pass(race):
    """The rim begins 0.6 m from the axis for the drone's centre; a wider pass afterwards changes nothing."""
    assert float(at_gate(race, 1, 10.0).margin) == 0.75  # half the opening: no pass yet
    tight, _ = race.step(at_gate(race, 1, 10.0, y=0.45), hover(race), KEY)
    assert float(tight.margin) == pytest.approx(0.15, abs=1e-3)
    wide, _ = race.step(changed(at_gate(race, 2, 10.0, y=0.1), margin=tight.margin), hover(race), KEY)
    assert int(wide.gates) == 1 and float(wide.margin) == float(tight.margin)


def test_no_episode_begins_where_one_has_crashed(race):
    """A gate is passed and the flight ends in one step: remembered after a time limit, not after a crash."""
    before = at_gate(race, 1, 10.0)
    spinning = eqx.tree_at(lambda s: s.quad.omega_b, before, jnp.array([80.0, 0.0, 0.0]))
    late = changed(before, steps=jnp.asarray(499, jnp.int32))
    for state, ending, is_kept in ((spinning, Ending.SPIN, False), (late, Ending.TIME_LIMIT, True)):
        after, timestep = race.step(state, hover(race), KEY)
        assert int(after.gates) == 1 and int(after.ending) == ending and bool(timestep.is_last)
        assert np.array_equal(after.buffer.states, state.buffer.states) is not is_kept
        assert int(after.buffer.next_slot[1]) == is_kept


def test_progress_resets_the_stall_count(race):
    state = changed(at_gate(race, 1, 10.0, ahead=-3.0), stalled=jnp.asarray(100, jnp.int32))
    state, _ = race.step(state, hover(race), KEY)
    assert int(state.stalled) == 0
    away = changed(at_gate(race, 1, -10.0, ahead=-3.0), closest=jnp.asarray(3.0), stalled=jnp.asarray(7))
    away = changed(away, stalled=jnp.asarray(7, jnp.int32))
    state, _ = race.step(away, hover(race), KEY)
    assert int(state.stalled) == 8


def test_restart_keeps_buffers_and_age_only(race):
    state, _ = race.step(at_gate(race, 1, 10.0), hover(race), KEY)
    again, timestep = race.restart(state, KEY)
    np.testing.assert_array_equal(again.buffer.states, state.buffer.states)
    assert int(again.age) == int(state.age) == 1
    assert int(again.gates) == int(again.steps) == int(again.clock.laps) == 0
    assert bool(timestep.is_first) and float(timestep.reward.nominal) == 0.0


def test_everything_is_determined_by_keys_and_actions(race):
    ends = []
    for _ in range(2):
        state, _ = race.reset(jr.key(5))
        for i in range(10):
            state, timestep = race.step(state, 0.3 * jr.normal(jr.key(i), (4,)), KEY)
        ends.append((state, timestep))
    assert all(
        bool(jnp.array_equal(a, b, equal_nan=True)) for a, b in zip(*map(jax.tree.leaves, ends), strict=True)
    )


def test_actions_are_clipped(race):
    state = race.hovering((0.0, 3.0, 2.0))
    wild, _ = race.step(state, jnp.array([9.0, -9.0, 9.0, -9.0]), KEY)
    tame, _ = race.step(state, jnp.array([1.0, -1.0, 1.0, -1.0]), KEY)
    np.testing.assert_array_equal(wild.quad.omega_b, tame.quad.omega_b)
    np.testing.assert_array_equal(wild.action, tame.action)


def test_the_delay_option_flies_the_previous_action(race):
    env = RacingConfig(action_delay=0.02).build()
    state = race.hovering((0.0, 3.0, 2.0))
    step = jax.jit(lambda state, action: env.step(state, action, KEY))
    full, none = jnp.array([1.0, 0.0, 0.0, 0.0]), IDLE
    first = [step(state, action)[0] for action in (full, none)]
    np.testing.assert_array_equal(first[0].quad.pos_w, first[1].quad.pos_w)
    second = [step(s, none)[0] for s in first]
    assert float(second[0].quad.vel_w[2] - second[1].quad.vel_w[2]) > 0.1


def test_curriculum_and_evaluation():
    config = RacingConfig(opening_initial=2.0, p_start_initial=0.0, p_start_final=1.0, curriculum_steps=100)
    env = config.build()
    for age, opening in ((0, 2.0), (50, 1.5), (100, 1.0), (1000, 1.0)):
        assert float(env._gap(jnp.asarray(age)).opening) == pytest.approx(opening)
    assert replace(config, stall_seconds=1.0).eval_config().limits.stall == 150
    judged = config.eval_config()
    assert float(judged.build()._gap(jnp.asarray(0)).opening) == 1.0
    assert (judged.p_start_initial, judged.p_start_final, judged.limits.episode) == (1.0, 1.0, 1000)
    assert judged.noise == config.noise and judged.reward == config.reward


@pytest.mark.parametrize(("age", "share"), [(0, 0.0), (50, 0.5), (200, 1.0)])
def test_looking_away_costs_more_and_more(race, age, share):
    """The drone hovers with its nose along x; its target, gate 1, is elsewhere."""
    state = race.hovering((0.0, 3.0, 2.0), age=jnp.asarray(age, jnp.int32))
    asked = RacingConfig(reward=RewardConfig(view=1.0), curriculum_steps=100).build()
    after, timestep = eqx.filter_jit(asked.step)(state, hover(race), KEY)
    plain = race.step(state, hover(race), KEY)[1].reward.nominal
    off = off_axis(None, after.quad, race.env.track.gate_pos[after.target])
    assert float(off) > 0.1
    np.testing.assert_allclose(timestep.reward.nominal, plain - share * off, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("episode_seconds", 0.0),
        ("stall_seconds", -1.0),
        ("action_delay", 0.04),
        ("drone_radius", 0.75),
        ("opening_final", 0.1),
        ("p_start_initial", 1.5),
        ("curriculum_steps", -1),
    ],
)
def test_impossible_rules_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        RacingConfig(**{field: value})


def test_lap_clock():
    """Lap 1 begins at the first pass; a lap's time goes to its place, the launch lap counts from rest."""
    clock, true = started_clock(), jnp.asarray(True)
    for k in range(MAX_LAPS + 3):
        clock = pass_first_gate(clock, jnp.asarray(1.5 + 5.0 * k + 0.1 * k**2), true, true)
        clock = pass_first_gate(clock, jnp.asarray(99.0), ~true, true)
    times = [5.0 + 0.1 * (2 * k + 1) for k in range(MAX_LAPS + 2)]
    expected = [*times[MAX_LAPS:], *times[2:MAX_LAPS]]
    assert int(clock.laps) == MAX_LAPS + 2
    np.testing.assert_allclose(clock.times, expected, atol=1e-4)
    assert float(clock.launch_lap) == pytest.approx(6.6)
    in_flight = started_clock()
    for when in (1.0, 6.0):
        in_flight = pass_first_gate(in_flight, jnp.asarray(when), true, ~true)
    assert int(in_flight.laps) == 1 and float(in_flight.launch_lap) == NO_TIME


def test_what_has_no_time_yet_is_said_and_every_number_is_finite(race):
    state, _ = race.reset(jr.key(0))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.clock))
    lap = race.env.episode_metrics(state)["lap_time_last"]
    assert not bool(lap.exists)
    clock, true = state.clock, jnp.asarray(True)
    for when in (1.0, 6.5):
        clock = pass_first_gate(clock, jnp.asarray(when), true, true)
    lap = race.env.episode_metrics(changed(state, clock=clock))["lap_time_last"]
    assert bool(lap.exists) and float(lap.value) == 5.5


@pytest.mark.parametrize(("laps", "flying"), [(0, []), (1, []), (3, [1, 2]), (MAX_LAPS + 2, range(MAX_LAPS))])
def test_flying_laps_leave_out_the_first(race, laps, flying):
    state, _ = race.reset(jr.key(0))
    record = changed(race.env.flight_record(state), laps=jnp.asarray(laps, jnp.int32))
    assert isinstance(record, FlightRecord)
    assert np.flatnonzero(record.has_flying_lap).tolist() == list(flying)
    assert int(record.has_lap.sum()) == min(laps, MAX_LAPS)


N, T = 256, 60


@pytest.fixture(scope="module")
def crowd():
    """Many copies under wild actions: final states, all time steps, and the speed in steps per second."""
    stream = AutoReset(RacingConfig().build())
    states, _ = jax.jit(jax.vmap(lambda key: stream.reset(key)))(jr.split(jr.key(0), N))

    @jax.jit
    def fly(states, key):
        def step(states, key):
            actions = jr.uniform(key, (N, 4), minval=-3.0, maxval=3.0)
            return jax.vmap(stream.step)(states, actions, jr.split(key, N))

        return jax.lax.scan(step, states, jr.split(key, T))

    jax.block_until_ready(fly(states, jr.key(1)))
    rates = []
    for attempt in range(3):
        begin = time.process_time()
        final, timesteps = jax.block_until_ready(fly(states, jr.key(2 + attempt)))
        rates.append(N * T / (time.process_time() - begin))
    return final, timesteps, max(rates)


def test_nothing_that_leaves_is_ever_not_finite(crowd):
    _, timesteps, _ = crowd
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(timesteps))
    assert float(jnp.max(jnp.abs(timesteps.obs))) < 10.0
    assert bool(jnp.any(timesteps.is_last))
    assert not bool(jnp.any(timesteps.is_terminal & ~timesteps.is_last))
    # the row after a last one is a first one, and no other is
    np.testing.assert_array_equal(timesteps.is_first[1:], timesteps.is_last[:-1])


def test_throughput(crowd):
    """Far below what a quiet machine does (some 200 k/s); unrolled substeps would give a few hundred."""
    assert crowd[2] > 15_000


def test_buffers_are_per_copy(race):
    """One copy of two passes a gate: only its own buffer learns of it."""
    near, far = at_gate(race, 1, 10.0), at_gate(race, 1, 10.0, ahead=-5.0)
    before = jax.tree.map(lambda *leaves: jnp.stack(leaves), near, far)
    after, _ = jax.jit(jax.vmap(lambda state: race.env.step(state, IDLE, KEY)))(before)
    assert after.gates.tolist() == [1, 0]
    assert not np.array_equal(after.buffer.states[0], before.buffer.states[0])
    np.testing.assert_array_equal(after.buffer.states[1], before.buffer.states[1])
    assert after.buffer.next_slot.tolist() == [[0, 1, 0, 0, 0, 0, 0], [0] * 7]
