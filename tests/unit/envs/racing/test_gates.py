"""The gate test is exact: against a slow oracle, at the edges, from both sides, at racing speed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s5wm.envs.racing.gates import Gap, cross_gates
from s5wm.envs.racing.track import Figure8Config, SplitSConfig, Track

TRACKS = {
    "rpg2026": SplitSConfig().build(),
    "classic": SplitSConfig(layout="classic").build(),
    "fig8A": Figure8Config().build(),
}
HALF, RIM, RADIUS = 0.75, 0.275, 0.15

cross_one = jax.jit(cross_gates)
cross_many = jax.jit(jax.vmap(cross_gates, in_axes=(None, 0, 0, 0, None)))


def gap(opening=1.0):
    return Gap(opening=jnp.asarray(opening, jnp.float32), radius=jnp.asarray(RADIUS, jnp.float32))


def frame(track: Track, gate: int):
    yaw = float(track.gate_yaw[gate])
    centre = np.asarray(track.gate_pos[gate], np.float64)
    return centre, np.array([np.cos(yaw), np.sin(yaw), 0.0]), np.array([-np.sin(yaw), np.cos(yaw), 0.0])


def segment(track, gate, y, z, velocity, before):
    """A segment of one step that meets the plane of a gate at (y, z), a share ``before`` of it earlier."""
    centre, normal, left = frame(track, gate)
    point = centre + y * left + z * np.array([0.0, 0.0, 1.0])
    step = 0.02 * (velocity[0] * normal + velocity[1] * left + velocity[2] * np.array([0.0, 0.0, 1.0]))
    return point - before * step, point + (1.0 - before) * step


def event(track, target, start, end, opening=1.0):
    return cross_one(
        track,
        jnp.asarray(target, jnp.int32),
        jnp.asarray(start, jnp.float32),
        jnp.asarray(end, jnp.float32),
        gap(opening),
    )


def oracle(track: Track, target: int, start, end):
    """Walks along the segment in 1000 pieces, in double precision, and looks at each gate."""
    share = np.linspace(0.0, 1.0, 1001)[:, None]
    points = start + share * (end - start)
    passed = wrong = rim = False
    doubtful = False
    for gate in range(track.num_gates):
        centre, normal, left = frame(track, gate)
        x, y, z = (points - centre) @ normal, (points - centre) @ left, points[:, 2] - centre[2]
        signs = x >= 0
        doubtful |= min(abs(x[0]), abs(x[-1])) < 1e-5
        (where,) = np.nonzero(signs[1:] != signs[:-1])
        for i in where:
            miss = max(abs(y[i]), abs(z[i]))
            doubtful |= min(abs(miss - HALF + RADIUS), abs(miss - HALF - RIM - RADIUS)) < 1e-3
            if miss <= HALF - RADIUS:
                passed |= gate == target and bool(signs[i + 1])
                wrong |= gate == target and not signs[i + 1]
            elif miss < HALF + RIM + RADIUS:
                rim = True
    return passed, wrong, rim and not passed, doubtful


@pytest.mark.parametrize("name", ["rpg2026", "fig8A"])
@given(seed=st.integers(0, 2**32 - 1))
def test_agrees_with_dense_sampling(name, seed):
    """Random segments of up to 30 m/s, centred on random points about random gates."""
    track, rng, n = TRACKS[name], np.random.default_rng(seed), 64
    gates, targets = rng.integers(track.num_gates, size=(2, n))
    targets = np.where(rng.random(n) < 0.7, gates, targets)
    starts, ends = np.zeros((n, 3), np.float32), np.zeros((n, 3), np.float32)
    for i, gate in enumerate(gates):
        velocity = rng.normal(size=3)
        velocity *= rng.uniform(0.1, 30.0) / np.linalg.norm(velocity)
        y, z = rng.uniform(-1.4, 1.4, size=2)
        starts[i], ends[i] = segment(track, gate, y, z, velocity, rng.uniform(-0.3, 1.3))
    found = cross_many(track, jnp.asarray(targets, jnp.int32), jnp.asarray(starts), jnp.asarray(ends), gap())
    checked = 0
    for i in range(n):
        *expected, doubtful = oracle(track, targets[i], starts[i].astype(float), ends[i].astype(float))
        if doubtful:
            continue
        checked += 1
        assert [bool(found.passed[i]), bool(found.wrong_way[i]), bool(found.rim_hit[i])] == expected
    assert checked > n // 2


speeds = st.floats(0.5, 30.0)
sideways = st.floats(-10.0, 10.0)
shares = st.floats(0.01, 0.99)


@given(
    gate=st.integers(0, 6),
    along=st.floats(-1.0, 1.0),
    edge=st.sampled_from(["y", "z"]),
    side=st.sampled_from([-1.0, 1.0]),
    speed=speeds,
    drift=st.tuples(sideways, sideways),
    before=shares,
    forwards=st.booleans(),
)
@example(gate=3, along=1.0, edge="y", side=1.0, speed=30.0, drift=(10.0, -10.0), before=0.5, forwards=True)
def test_edges_of_opening_and_rim(gate, along, edge, side, speed, drift, before, forwards):
    """2 mm decide, whatever the speed, the angle, and the side from which the plane is met."""
    track = TRACKS["rpg2026"]
    velocity = (speed if forwards else -speed, *drift)
    for distance, outcome in (
        (HALF - RADIUS - 2e-3, "inside"),
        (HALF - RADIUS + 2e-3, "rim"),
        (HALF + RIM + RADIUS - 2e-3, "rim"),
        (HALF + RIM + RADIUS + 2e-3, "outside"),
    ):
        offset = (side * distance, along * distance * 0.95)
        y, z = offset if edge == "y" else offset[::-1]
        if outcome == "outside" and gate in (3, 4):
            continue  # stacked on one another: beyond the rim of one is the other
        start, end = segment(track, gate, y, z, velocity, before)
        got = event(track, gate, start, end)
        assert bool(got.passed) == (outcome == "inside" and forwards)
        assert bool(got.wrong_way) == (outcome == "inside" and not forwards)
        assert bool(got.rim_hit) == (outcome == "rim")
        assert float(got.miss) == pytest.approx(distance, abs=1e-4)
        assert float(got.fraction) == pytest.approx(before, abs=2e-3 + 1e-4 / (0.02 * speed))


@given(cut=shares, before=shares, speed=speeds, gate=st.integers(0, 7))
def test_a_path_cut_anywhere_crosses_once(cut, before, speed, gate):
    """Also where the cut lies on the plane itself."""
    track = TRACKS["fig8A"]
    start, end = segment(track, gate, 0.1, -0.2, (speed, 1.0, -1.0), before)
    for middle in (start + cut * (end - start), start + before * (end - start)):
        passes = [
            bool(event(track, gate, a, b).passed) for a, b in ((start, middle), (middle, end), (end, end))
        ]
        assert sum(passes) == 1


def test_standing_on_the_plane_is_no_crossing():
    track = TRACKS["rpg2026"]
    centre = np.asarray(track.gate_pos[1])
    got = event(track, 1, centre, centre)
    assert not (got.passed or got.wrong_way or got.rim_hit)
    assert float(got.fraction) == 1.0 and float(got.miss) == 0.0


def test_another_gates_opening_is_free_in_both_directions():
    track = TRACKS["rpg2026"]
    for speed in (10.0, -10.0):
        start, end = segment(track, 5, 0.2, 0.1, (speed, 0.0, 0.0), 0.4)
        got = event(track, 2, start, end)
        assert not (got.passed or got.wrong_way or got.rim_hit)


def test_rim_of_another_gate_is_hit():
    track = TRACKS["rpg2026"]
    start, end = segment(track, 5, 0.9, 0.1, (10.0, 0.0, 0.0), 0.4)
    assert event(track, 2, start, end).rim_hit


def test_the_stacked_gates_of_the_split_s():
    """Upper one westwards, lower one eastwards; the frames touch, the openings are free."""
    track = TRACKS["rpg2026"]
    for gate in (3, 4):
        for z in (-0.59, 0.0, 0.59):
            got = event(track, gate, *segment(track, gate, 0.0, z, (12.0, 0.0, 0.0), 0.5))
            assert bool(got.passed) and not bool(got.rim_hit)
    between = segment(track, 4, 0.0, 0.99, (12.0, 0.0, 0.0), 0.5)
    assert event(track, 4, *between).rim_hit


def test_a_wide_opening_takes_what_the_rim_would_stop():
    track = TRACKS["fig8A"]
    flight = segment(track, 1, 1.0, 0.3, (9.0, 0.0, 0.0), 0.5)
    assert event(track, 1, *flight).rim_hit
    wide = event(track, 1, *flight, opening=2.0)
    assert bool(wide.passed) and not bool(wide.rim_hit)


def test_the_low_classic_gate_has_no_lower_rim():
    """Below its opening nothing happens, its side posts are there; the same gate elsewhere has one."""
    low = segment(TRACKS["classic"], 4, 0.0, -0.68, (12.0, 0.0, 0.0), 0.5)
    got = event(TRACKS["classic"], 4, *low)
    assert not (got.passed or got.rim_hit or got.wrong_way)
    assert event(TRACKS["classic"], 4, *segment(TRACKS["classic"], 4, 0.8, -0.68, (12.0, 0, 0), 0.5)).rim_hit
    assert event(TRACKS["classic"], 1, *segment(TRACKS["classic"], 1, 0.0, -0.68, (12.0, 0, 0), 0.5)).rim_hit
