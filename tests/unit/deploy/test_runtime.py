"""The runtime in NumPy sees, flies and judges as the simulator in JAX does, and falls back as it says."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.deploy.card import FlightCard, MemorySlot, ObservationCard, Origin
from s5wm.deploy.describe import track_card, vehicle_card
from s5wm.deploy.runtime.fly import FlightPlan
from s5wm.deploy.runtime.gates import Gates
from s5wm.deploy.runtime.guard import InputCheck, Limits, OutputLimit
from s5wm.deploy.runtime.hover import hover_action, level_hover
from s5wm.deploy.runtime.logbook import Logbook
from s5wm.deploy.runtime.loop import Clock, Loop, SimulatedClock
from s5wm.deploy.runtime.observation import ENTRIES, observe
from s5wm.deploy.runtime.pilot import Control, Mode, Pilot
from s5wm.deploy.runtime.plant import Body, Quadrotor
from s5wm.deploy.runtime.simulation import Simulation
from s5wm.deploy.runtime.state import VehicleState
from s5wm.envs.quadrotor import integrate
from s5wm.envs.quadrotor.state import QuadState
from s5wm.envs.racing import observation
from s5wm.envs.racing.gates import Gap, cross_gates
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.track import SplitSConfig
from s5wm.errors import ConfigError, ObservationError

ENV = RacingConfig(track=SplitSConfig(layout="classic")).build()
TRACK, VEHICLE = track_card(ENV.deployment().track), vehicle_card(ENV.params)
LIMITS = Limits()
PERIOD = 0.02
CARD = FlightCard(
    version=1,
    origin=Origin(run="test", task="race", agent="none", commit=None, env_steps=None, date="today"),
    control_period=PERIOD,
    observation=ObservationCard(layout="B", shape=(24,), dtype="float32", entries=ENTRIES["B"]),
    actions=4,
    action_slew=(0.5, 0.5, 0.5, 0.5),
    memory=(MemorySlot(name="prev_action", start=0, size=4),),
    vehicle=VEHICLE,
    track=TRACK,
)


def body(rng, speed=8.0):
    quat = rng.normal(size=4)
    return Body(
        pos_w=rng.uniform((-5, -5, 1), (8, 8, 5)),
        vel_w=rng.normal(size=3) * speed,
        quat=quat / np.linalg.norm(quat),
        omega_b=rng.normal(size=3) * 3.0,
        rotor_speed=rng.uniform(500.0, 2500.0, 4),
    )


def in_jax(state):
    return QuadState(**{name: jnp.asarray(value, jnp.float32) for name, value in vars(state).items()})


def test_the_plant_flies_as_the_reference_in_jax():
    rng, quad = np.random.default_rng(0), Quadrotor(VEHICLE)
    fly = jax.jit(lambda state, action: integrate.fly_rk4(ENV.params, state, integrate.held(action, 20)))
    for _ in range(5):
        mine, theirs = body(rng), None
        theirs = in_jax(mine)
        for action in rng.uniform(-1, 1, (10, 4)):
            mine, theirs = quad.fly(mine, action, PERIOD), fly(theirs, jnp.asarray(action, jnp.float32))
        np.testing.assert_allclose(mine.pos_w, theirs.pos_w, atol=1e-4)
        np.testing.assert_allclose(mine.vel_w, theirs.vel_w, atol=1e-3)
        np.testing.assert_allclose(mine.quat, theirs.quat, atol=1e-4)
        np.testing.assert_allclose(mine.omega_b, theirs.omega_b, atol=1e-2)
        np.testing.assert_allclose(mine.rotor_speed, theirs.rotor_speed, rtol=1e-4)


@pytest.mark.parametrize("layout", ["A", "B", "C"])
def test_the_runtime_observes_as_the_task(layout):
    rng, gates = np.random.default_rng(1), Gates(TRACK)
    clearance = jnp.asarray(gates.clearance, jnp.float32)
    see = jax.jit(lambda view: observation.observe(layout, ENV.track, view))
    for target in range(gates.count):
        state = body(rng)
        view = observation.View(in_jax(state), jnp.asarray(target), jnp.zeros(4), clearance)
        mine = observe(layout, gates, state.seen(0.0), target)
        assert mine.dtype == np.float32
        assert mine.size == sum(entry.size for entry in ENTRIES[layout])
        np.testing.assert_allclose(mine, see(view), atol=2e-6)


def test_the_runtime_judges_crossings_as_the_task():
    rng, gates = np.random.default_rng(2), Gates(TRACK)
    gap = Gap(opening=jnp.ones(()), radius=jnp.asarray(0.15))
    judge = jax.jit(lambda target, start, end: cross_gates(ENV.track, target, start, end, gap))
    seen = set()
    for index in range(400):
        target = index % gates.count
        side = gates.normal[target] * rng.choice([-1.0, 1.0]) * 0.1
        at = gates.pos[target] + rng.uniform(-1.3, 1.3, 3) * (1.0 - np.abs(gates.normal[target]))
        mine = gates.cross(target, at - side, at + side)
        assert gates.passes(target, at - side, at + side) == mine.passed
        theirs = judge(target, *(jnp.asarray(end, jnp.float32) for end in (at - side, at + side)))
        assert (mine.passed, mine.wrong_way, mine.rim_hit) == (
            theirs.passed,
            theirs.wrong_way,
            theirs.rim_hit,
        )
        seen.add((mine.passed, mine.wrong_way, mine.rim_hit))
    assert len(seen) == 4


def state_at(time, **changes):
    still = {"pos_w": np.array([0.0, 0.0, 2.0]), "vel_w": np.zeros(3), "omega_b": np.zeros(3)}
    return VehicleState(time=time, **(still | {"quat": np.array([1.0, 0.0, 0.0, 0.0])} | changes))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"pos_w": np.array([np.nan, 0, 2])}, "not_finite"),
        ({"vel_w": np.array([0, np.inf, 0])}, "not_finite"),
        ({"quat": np.array([np.nan, 0, 0, 0])}, "not_finite"),
        ({"omega_b": np.array([0, 0, -np.inf])}, "not_finite"),
        ({"quat": np.array([0.9, 0, 0, 0])}, "quaternion"),
        ({"quat": np.zeros(4)}, "quaternion"),
        ({"pos_w": np.array([0.0, 0.0, 500.0])}, "out_of_range"),
        ({"vel_w": np.array([50.0, 0.0, 0.0])}, "out_of_range"),
        ({"omega_b": np.array([0.0, 80.0, 0.0])}, "out_of_range"),
        ({"pos_w": np.array([6.0, 0.0, 2.0])}, "jump"),
        ({"time": 1.0}, "repeated"),
        ({"time": 0.99}, "out_of_order"),
        ({"time": 0.5}, "stale"),
        ({"time": np.nan}, "stale"),
        ({"time": 7.0}, "from_the_future"),
    ],
)
def test_an_estimate_that_cannot_be_is_refused_by_name(changes, problem):
    check = InputCheck(CARD, LIMITS)
    assert check.problem(state_at(1.0), 1.0) is None
    good = check.last
    assert check.problem(replace(state_at(1.02), **changes), 1.02) == problem
    assert (check.last is good) == (problem is not None)
    assert check.problem(None, 1.04) == "missing"
    assert check.problem(state_at(1.06), 1.06) is None  # the next good one is taken


def test_commands_stay_within_range_and_slew():
    limit, rng = OutputLimit(CARD), np.random.default_rng(3)
    before = np.zeros(4, np.float32)
    for action in rng.uniform(-3, 3, (200, 4)):
        after = limit(action, before)
        assert np.abs(after).max() <= 1.0
        assert np.abs(after - before).max() <= 0.5 + 1e-6
        before = after
    np.testing.assert_array_equal(
        limit(np.array([0.2, -0.1, 0.0, 0.4]), np.zeros(4)), np.float32([0.2, -0.1, 0, 0.4])
    )


def test_a_slew_limit_of_nothing_does_not_hold_the_command_for_ever():
    limit, action = OutputLimit(replace(CARD, action_slew=(0.0,) * 4)), np.zeros(4, np.float32)
    for _ in range(30):
        action = limit(np.ones(4), action)
    np.testing.assert_array_equal(action, np.ones(4))


@pytest.mark.parametrize("seed", range(2))
def test_the_level_hover_levels_and_stops(seed):
    quad, rng = Quadrotor(VEHICLE), np.random.default_rng(seed)
    drone = replace(body(rng, speed=5.0), omega_b=rng.normal(size=3) * 5.0)
    for _ in range(250):
        drone = quad.fly(drone, level_hover(VEHICLE, drone.seen(0.0)), PERIOD)
    assert np.abs(drone.quat[1:3]).max() < 0.06
    assert np.linalg.norm(drone.vel_w) < 1.5


class Steady:
    """An engine that remembers its last action and adds a little to it."""

    def __init__(self, cost=0.0, clock=None, add=0.01):
        self.memory, self.add = np.zeros(4, np.float32), add
        self.cost, self.clock = cost, clock
        self.steps = 0

    def reset(self):
        self.memory[:] = 0.0

    def step(self, obs):
        self.steps += 1
        if not np.isfinite(obs).all() or obs[0] > 1e3:
            raise ObservationError("bad")
        if self.clock is not None:
            self.clock.wait_until(self.clock.now() + self.cost)
        self.memory[:] = np.clip(hover_action(VEHICLE) + self.add, -1, 1)
        return self.memory.copy()


class Scripted:
    """A target that shows what a function makes of the true state of a simulation."""

    def __init__(self, clock, show, obeys=False):
        self.simulation = Simulation(VEHICLE, TRACK, clock, obeys=obeys)
        self.clock, self.show = clock, show
        self.sent, self.period = [], 0

    def read(self):
        state = self.show(self.period, self.simulation.read())
        self.period += 1
        return state

    def send(self, action):
        self.sent.append(action)
        self.simulation.send(action)

    def between(self, until):
        self.simulation.between(until)

    control = Control.OURS

    @property
    def is_over(self):
        return self.simulation.is_over


def flown(show, periods=40, engine=None, clock=None, obeys=False):
    clock = clock or SimulatedClock()
    engine = engine or Steady()
    target, log = Scripted(clock, show, obeys), Logbook(CARD, LIMITS.deadline)
    Loop(Pilot(CARD, engine, LIMITS), target, clock, PERIOD, log.add).run(periods * PERIOD)
    return target, log, engine


def bad(state):
    return replace(state, pos_w=state.pos_w * np.nan)


def test_one_bad_estimate_holds_the_command_and_is_forgotten():
    target, log, engine = flown(lambda n, state: bad(state) if n == 7 else state)
    modes = [period.mode for period in log.periods]
    assert modes == [Mode.POLICY] * 7 + [Mode.HOLD] + [Mode.POLICY] * 32
    np.testing.assert_array_equal(target.sent[7], target.sent[6])
    assert engine.steps == 39  # the bad one never came to the policy
    assert np.isfinite(np.array(target.sent)).all()


def test_four_in_a_row_hold_and_five_hand_over_for_good():
    _, log, _ = flown(lambda n, state: None if 10 <= n < 14 else state)
    assert [p.mode for p in log.periods].count(Mode.HOLD) == 4
    assert log.periods[14].mode is Mode.POLICY
    _, log, _ = flown(lambda n, state: None if 10 <= n < 15 else state)
    assert [p.mode for p in log.periods[10:]] == [Mode.HOLD] * 4 + [Mode.OPEN_LOOP] + [Mode.HOVER] * 25
    assert {p.problem for p in log.periods[10:14]} == {"missing"}


@pytest.mark.parametrize("name", ["stale", "repeated", "out_of_order", "not_finite", "quaternion"])
def test_every_fault_leads_to_a_hover_that_stays_in_the_air(name):
    first = {}

    def show(n, state):
        if n < 10:
            return first.setdefault(n, state)
        wrong = {
            "stale": replace(state, time=state.time - 1.0),
            "repeated": replace(state, time=first[9].time),
            "out_of_order": replace(state, time=first[8].time),
            "not_finite": bad(state),
            "quaternion": replace(state, quat=state.quat * 1.5),
        }
        return wrong[name] if n < 16 else replace(state, vel_w=state.vel_w * np.nan)

    target, log, _ = flown(show, periods=80, obeys=True)
    assert log.periods[-1].mode is Mode.HOVER
    assert not target.is_over
    assert np.linalg.norm(target.simulation.body.vel_w) < 1.5
    assert max(p.time for p in log.periods if p.mode is Mode.POLICY) < 10.5 * PERIOD


def test_an_estimate_that_overflows_the_policy_is_a_bad_one():
    _, log, engine = flown(lambda n, state: state)
    pilot = Pilot(CARD, engine, LIMITS)
    engine.step = lambda obs: (_ for _ in ()).throw(ObservationError("too large"))
    assert pilot.decide(state_at(0.0), 0.0).problem == "overflow"
    assert {p.mode for p in log.periods} == {Mode.POLICY}


def test_what_was_flown_is_what_the_policy_remembers():
    engine = Steady(add=0.5)
    slow = replace(CARD, action_slew=(0.06,) * 4)
    clock = SimulatedClock()
    target = Scripted(clock, lambda n, state: state)
    Loop(Pilot(slow, engine, LIMITS), target, clock, PERIOD).run(5 * PERIOD)
    np.testing.assert_allclose(target.sent[-1], hover_action(VEHICLE) + 0.3, atol=1e-5)
    np.testing.assert_array_equal(engine.memory, target.sent[-1])


def test_a_task_that_is_no_race_is_refused():
    with pytest.raises(ConfigError, match="flies quadrotors through gates alone"):
        Pilot(replace(CARD, track=None), Steady(), LIMITS)
    with pytest.raises(ConfigError, match="not 'image'"):
        observe("image", Gates(TRACK), state_at(0.0), 0)
    with pytest.raises(ValueError, match=r"Limits\.age is 0\.0; it must be positive"):
        Limits(age=0.0)


def test_the_clock_is_monotonic_and_waits_long_enough():
    clock = Clock()
    begin = clock.now()
    clock.wait_until(begin + 0.003)
    assert clock.now() - begin >= 0.003
    clock.wait_until(begin)  # in the past: at once
    assert clock.now() - begin < 1.0


def test_a_flight_lasts_some_periods():
    with pytest.raises(ConfigError, match=r"--seconds is 0\.005; it must lie in \[0\.1, 86400\]"):
        FlightPlan(seconds=0.005)
