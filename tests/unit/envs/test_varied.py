"""A varied race: nothing varied is the race itself; what varies does what physics says."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.envs.quadrotor import integrate
from s5wm.envs.quadrotor.bodyrate import Setpoint, rate_torque
from s5wm.envs.quadrotor.state import hover_state
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.tasks import figure_8_by_camera
from s5wm.envs.racing.track import Figure8Config, SplitSConfig
from s5wm.envs.racing.variation import VariationConfig
from s5wm.envs.racing.varied import VariedRace, draw, ranges_of
from s5wm.errors import ConfigError
from s5wm.experiments.configure import configure
from s5wm.experiments.experiment import load_experiment, save_experiment

RACE = RacingConfig(track=Figure8Config()).eval_config().build()
EVERYTHING = VariationConfig(
    mass=0.1, inertia=0.2, thrust=0.1, battery=0.2, drag=0.5, motor=0.3, wind=3.0, gates=0.2, map_error=0.1
)


@jax.jit
def flown(env, key, actions):
    state, first = env.reset(key)

    def step(state, action):
        state, timestep = env.step(state, action, key)
        return state, (timestep, state.inner.quad)

    return first, jax.lax.scan(step, state, actions)[1]


ACTIONS = jr.uniform(jr.key(5), (15, 4), minval=-0.3, maxval=0.3)


def test_nothing_varied_is_the_race_itself():
    env = VariedRace(RACE, ranges_of(VariationConfig()))
    first, (steps, quads) = flown(env, jr.key(0), ACTIONS)
    _, key, _ = jr.split(jr.key(0), 3)
    state, plain = jax.jit(RACE.reset)(key)
    np.testing.assert_allclose(first.obs, plain.obs, atol=1e-6)
    step = jax.jit(RACE.step)
    for index, action in enumerate(ACTIONS):
        state, plain = step(state, action, key)
        np.testing.assert_allclose(steps.obs[index], plain.obs, atol=1e-5)
        np.testing.assert_allclose(steps.reward.nominal[index], plain.reward.nominal, atol=1e-4)
    np.testing.assert_allclose(quads.pos_w[-1], state.quad.pos_w, atol=1e-5)


def test_a_delay_is_the_race_under_the_actions_of_before():
    late = VariedRace(RACE, ranges_of(VariationConfig(delay_min=2.0, delay_max=2.0)))
    none = VariedRace(RACE, ranges_of(VariationConfig()))
    _, (_, delayed) = flown(late, jr.key(0), ACTIONS)
    hover = jax.jit(none.reset)(jr.key(0))[0].inner.action
    before = jnp.concatenate([jnp.stack([hover, hover]), ACTIONS[:-2]])
    _, (_, shifted) = flown(none, jr.key(0), before)
    np.testing.assert_allclose(delayed.pos_w, shifted.pos_w, atol=1e-5)


def test_wind_is_flight_in_another_frame():
    wind = jnp.array([3.0, -1.0, 0.5])
    windy = replace(RACE.params, wind_w=wind)
    fly = jax.jit(integrate.fly)
    still = hover_state(RACE.params, jnp.array([0.0, 0.0, 2.0]), jnp.zeros(()))
    blown, calm = still, replace(still, vel_w=-wind)
    for action in ACTIONS:
        blown = fly(windy, blown, integrate.held(action))
        calm = fly(RACE.params, calm, integrate.held(action))
    np.testing.assert_allclose(blown.vel_w, calm.vel_w + wind, atol=1e-4)
    np.testing.assert_allclose(blown.pos_w, calm.pos_w + wind * len(ACTIONS) * integrate.CTRL_DT, atol=1e-4)


def test_draws_stay_within_their_ranges():
    drawn = jax.jit(jax.vmap(lambda key: draw(RACE, ranges_of(EVERYTHING), key)))(jr.split(jr.key(0), 500))
    mass = np.asarray(drawn.params.mass / RACE.params.mass)
    assert 0.9 <= mass.min() < 0.91
    assert 1.09 < mass.max() <= 1.1
    full = np.asarray(drawn.params.thrust_max / RACE.params.thrust_max)
    assert 0.9 * 0.8 <= full.min() < full.max() <= 1.1
    drag = np.asarray(drawn.params.drag / RACE.params.drag[None])
    assert 0.5 <= drag.min() < 0.52
    assert np.abs(drag - drag[:, :1]).max() > 0.5  # each axis on its own
    assert 2.8 < np.linalg.norm(drawn.params.wind_w, axis=1).max() <= 3.0
    assert np.abs(drawn.params.wind_w[:, 2]).max() == 0.0
    assert 0.19 < np.abs(drawn.gate_shift).max() <= 0.2
    # The centre gate of the figure of eight is flown twice.
    np.testing.assert_array_equal(drawn.gate_shift[:, 0], drawn.gate_shift[:, 4])
    assert np.abs(drawn.gate_shift[:, 0] - drawn.gate_shift[:, 1]).max() > 0.2


def test_the_pair_of_the_split_s_is_shifted_as_one():
    race = RacingConfig(track=SplitSConfig()).build()
    drawn = jax.jit(lambda key: draw(race, ranges_of(EVERYTHING), key))(jr.key(0))
    for shift in (drawn.gate_shift, drawn.map_shift):
        np.testing.assert_array_equal(shift[3], shift[4])
        assert np.abs(shift[3] - shift[5]).max() > 0.01


def test_a_late_action_is_penalised_and_told_when_it_is_commanded():
    env = VariedRace(RACE, ranges_of(VariationConfig(delay_min=2.0, delay_max=2.0)))
    first, (steps, _) = flown(env, jr.key(0), ACTIONS)
    hover = jax.jit(env.reset)(jr.key(0))[0].inner.action
    before = np.concatenate([hover[None], ACTIONS[:-1]])
    reward = RACE.config.reward
    smoothing = -reward.action_change * np.square(ACTIONS - before).sum(1)
    smoothing -= reward.rate_command * np.square(ACTIONS[:, 1:]).sum(1)
    np.testing.assert_allclose(steps.reward.smoothing, smoothing, atol=1e-6)
    told = slice(28, 32)  # of layout B: 24 numbers, 4 rotors, then the last action
    np.testing.assert_allclose(first.privileged[told], hover, atol=1e-6)
    np.testing.assert_allclose(steps.privileged[:, told], ACTIONS, atol=1e-6)


def test_the_rate_controller_does_not_know_the_true_inertia_and_thrust():
    drawn = jax.jit(jax.vmap(lambda key: draw(RACE, ranges_of(EVERYTHING), key)))(
        jr.split(jr.key(0), 100)
    ).params
    wanted = Setpoint(collective=jnp.float32(8.0), omega_b=jnp.array([3.0, -2.0, 1.0]))
    at_rest, rates, accelerated = jnp.zeros(3), jnp.array([2.0, 1.0, -3.0]), jnp.array([20.0, -30.0, 5.0])

    def torques(params, acceleration):
        """Turning at ``rates``, while the rotors accelerate the body by so much (rad/s^2)."""
        return rate_torque(params, wanted, rates, params.inertia * acceleration)

    # What a firmware measures are rates and their change: of these it commands the same, whatever the body.
    torque = jax.vmap(torques, (0, None))(drawn, accelerated)
    nominal = torques(RACE.params, accelerated)
    stronger = np.asarray(drawn.thrust_max / RACE.params.thrust_max)[:, None]
    np.testing.assert_allclose(torque[:, :2], stronger * nominal[None, :2], rtol=1e-4)
    # On yaw it adds to the torque that the rotors make.
    added = torque[:, 2] + RACE.params.rate_damping[2] * drawn.inertia[:, 2] * accelerated[2]
    expected = nominal[2] + RACE.params.rate_damping[2] * RACE.params.inertia[2] * accelerated[2]
    np.testing.assert_allclose(added, stronger[:, 0] * expected, rtol=1e-4)
    still = jax.vmap(lambda params: rate_torque(params, wanted, at_rest, at_rest) / params.inertia)(drawn)
    usual = rate_torque(RACE.params, wanted, at_rest, at_rest) / RACE.params.inertia
    response = np.asarray(still / usual[None])
    assert response.min() < 0.9 and response.max() > 1.1


def test_a_gate_that_the_map_knows_is_seen_and_another_is_not():
    names = ("gates", "map_error")
    for name, is_seen in zip(names, (True, False), strict=True):
        env = VariedRace(RACE, ranges_of(VariationConfig(**{name: 0.2})))
        state, first = jax.jit(env.reset)(jr.key(3))
        shift = state.variation.gate_shift + state.variation.map_shift
        real = RACE.track.gate_pos[0] + shift[0] - state.inner.quad.pos_w
        assert np.allclose(first.obs[15:18] * 10.0, real, atol=1e-4) is is_seen


@pytest.mark.parametrize("layout", ["B", "C"])
def test_the_first_step_tells_of_the_start_that_was_moved(layout):
    config = replace(RACE.config, observation=layout, privileged_layout=layout)
    env = VariedRace(
        config.build(), ranges_of(VariationConfig(start_pos=0.5, start_vel=1.0, start_tilt=0.35))
    )
    state, first = jax.jit(env.reset)(jr.key(3))
    np.testing.assert_allclose(first.privileged[: first.obs.shape[0]], first.obs, atol=1e-6)
    quad, inner = state.inner.quad, state.inner
    away = jnp.linalg.norm(RACE.track.gate_pos[inner.target] - quad.pos_w)
    np.testing.assert_allclose(inner.closest, away, rtol=1e-5)
    np.testing.assert_allclose(inner.top_speed, jnp.linalg.norm(quad.vel_w), rtol=1e-5)


def test_a_varied_race_shows_the_opening_of_its_curriculum():
    config = replace(
        RacingConfig(track=Figure8Config(), observation="C", privileged_layout="C"),
        opening_initial=2.0,
        curriculum_steps=100,
    )
    first = jax.jit(VariedRace(config.build(), ranges_of(VariationConfig())).reset)(jr.key(3))[1]
    np.testing.assert_allclose(first.obs, first.privileged[:27], atol=1e-6)


def test_ranges_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"VariationConfig\.mass is 1\.5; a share must be less than 1"):
        VariationConfig(mass=1.5)
    with pytest.raises(ValueError, match=r"VariationConfig\.wind is -1\.0; it must be at least 0"):
        VariationConfig(wind=-1.0)
    with pytest.raises(ValueError, match="min <= max <= 4 periods"):
        VariationConfig(delay_min=3.0, delay_max=1.0)
    assert VariationConfig(delay_min=2.0, delay_max=2.0, mass=0.1).scaled(0.5) == VariationConfig(
        delay_min=1.0, delay_max=1.0, mass=0.05
    )
    with pytest.raises(ValueError, match="this one has a camera"):
        VariedRace(figure_8_by_camera().build(), ranges_of(VariationConfig()))


def test_an_experiment_trains_on_what_its_file_varies_and_is_judged_without_it(tmp_path):
    file = Path(__file__).parents[3] / "examples" / "variations" / "transfer.json"
    overrides = (f"task.variation=file:{file}", "train.num_envs=2")
    experiment = configure("race/split-s", "ppo", "cpu", seed=0, budget=(None, None), overrides=overrides)
    assert experiment.task.variation.delay_max == 2.0
    env = experiment.build_env()
    assert isinstance(env.env, VariedRace)
    assert float(env.env.ranges.drag) == 0.5
    save_experiment(tmp_path / "config.json", experiment)
    assert load_experiment(tmp_path / "config.json", warn=print) == experiment
    assert experiment.task.eval_config().variation is None
    with pytest.raises(ConfigError, match="this one has a camera: leave it out"):
        configure("race/figure-8", "s5wm-p", "cpu", seed=0, budget=(None, None), overrides=overrides[:1])
