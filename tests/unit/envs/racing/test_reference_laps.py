"""The time-optimal reference laps, flown through the gate logic at 50 Hz, are laps to it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.envs.quadrotor.state import hover_state
from s5wm.envs.racing.episode import Flown, RacingState, advance
from s5wm.envs.racing.gates import Gap, cross_gates
from s5wm.envs.racing.laps import NO_TIME, last_lap
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.track import Figure8Config, SplitSConfig

DATA = Path(__file__).parents[3] / "data" / "racing_reference_laps.npz"
TRACKS = [
    SplitSConfig(),
    SplitSConfig(layout="classic"),
    Figure8Config(),
    Figure8Config(layout="fig8B"),
]


def lap(config):
    """Knots of the reference lap, closed, in double precision: t, pos, vel, and the times of the passes."""
    data = np.load(DATA)
    prefix = f"{config.name}_{config.layout}"
    return [data[f"{prefix}/{name}"].astype(np.float64) for name in ("t", "pos", "vel", "passes")]


def hermite(t, pos, vel, times):
    """Cubic through the knots and their velocities, repeated lap after lap."""
    times = times % t[-1]
    i = np.clip(np.searchsorted(t, times, side="right") - 1, 0, len(t) - 2)
    h = (t[i + 1] - t[i])[:, None]
    s = (times - t[i])[:, None] / h
    return (
        (1 + 2 * s) * (1 - s) ** 2 * pos[i]
        + s * (1 - s) ** 2 * h * vel[i]
        + s**2 * (3 - 2 * s) * pos[i + 1]
        + s**2 * (s - 1) * h * vel[i + 1]
    )


def fly_along(env, path):
    """Every state and event of a drone carried along a path, beginning 0.3 s before the first gate."""
    gap = Gap(opening=jnp.asarray(1.0), radius=jnp.asarray(0.15))
    action = jnp.zeros(4)

    def step(state: RacingState, pos_w):
        quad = hover_state(env.params, pos_w, jnp.asarray(0.0))
        event = cross_gates(env.track, state.target, state.quad.pos_w, pos_w, gap)
        state = advance(env.track, state, Flown(action=action, quad=quad, event=event), gap)
        return state, (event, state.clock)

    @jax.jit
    def run(path):
        state, _ = env.reset(jr.key(0))
        state, _ = step(state, path[0])
        return jax.lax.scan(step, state, path[1:])

    return run(path)


@pytest.mark.parametrize("config", TRACKS, ids=lambda c: c.layout)
def test_reference_lap(config):
    t, pos, vel, passes = lap(config)
    env = RacingConfig(track=config, p_start_initial=1.0, p_start_final=1.0).build()
    lead, laps, dt = 0.3, 2.4, 0.02
    times = np.arange(0.0, laps * t[-1], dt) - lead
    path = jnp.asarray(hermite(t, pos, vel, times), jnp.float32)
    state, (events, clocks) = fly_along(env, path)

    assert not np.any(events.rim_hit) and not np.any(events.wrong_way)
    (when,) = np.nonzero(events.passed)
    found = times[when] + np.asarray(events.fraction)[when] * dt
    expected = np.concatenate([passes[:-1] + k * t[-1] for k in range(3)])
    expected = expected[expected < times[-1]]
    # all gates, in order, at the right times: 1 ms covers the chord of a 20 ms arc
    assert len(found) == len(expected) == int(state.gates)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.asarray(events.miss)[when].max() < 0.56

    assert int(state.clock.laps) == 2
    np.testing.assert_allclose(np.asarray(state.clock.times)[:2], t[-1], atol=1e-3)
    assert (np.asarray(state.clock.times)[2:] == NO_TIME).all()
    assert float(last_lap(state.clock).value) == pytest.approx(t[-1], abs=1e-3)
    # one step was made to enter the path, so the clock is a step ahead of ``lead``
    assert float(state.clock.launch_lap) == pytest.approx(lead + dt + t[-1], abs=2e-3)
    assert (np.diff(np.asarray(clocks.laps)) >= 0).all()
