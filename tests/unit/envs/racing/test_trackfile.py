"""Tracks and drones from files: read, checked, told what is wrong, drawn, trained on and judged."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.cli import main
from s5wm.envs.quadrotor.params import GRAVITY, QuadConfig
from s5wm.envs.racing import checktrack
from s5wm.envs.racing.bounds import lap_bound, point_mass_bound
from s5wm.envs.racing.camera import CameraConfig
from s5wm.envs.racing.checktrack import track_problems
from s5wm.envs.racing.evaluation import race_groups
from s5wm.envs.racing.observation import target_from
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.track import (
    BoxConfig,
    Figure8Config,
    FileTrackConfig,
    GateConfig,
    SplitSConfig,
    StartConfig,
)
from s5wm.envs.racing.trackfile import load_quad, load_track
from s5wm.errors import ConfigError
from s5wm.experiments.presets import preset
from s5wm.runs.codec import decode, encode, override

FILES = Path(__file__).parents[4] / "examples" / "tracks"
BACKYARD = load_track(FILES / "backyard.json")
BOX = BoxConfig(lo=(-10.0, -10.0, 0.05), hi=(10.0, 10.0, 6.0))


def track(*gates, **changes):
    """A track of (x, y, z, yaw) in a box of 20 m."""
    rows = tuple(g if isinstance(g, GateConfig) else GateConfig(pos=g[:3], yaw_deg=g[3]) for g in gates)
    values = {"start": StartConfig(pos=(-5.0, -5.0, 1.0)), "box": BOX, **changes}
    return FileTrackConfig(gates=rows, **values)


def as_file(config):
    """A published track as a file would have it."""
    built = config.build()
    return FileTrackConfig(
        gates=tuple(
            GateConfig(pos=tuple(map(float, pos)), yaw_deg=math.degrees(yaw), lower_rim=bool(rim))
            for pos, yaw, rim in zip(built.gate_pos, built.gate_yaw, built.has_lower_rim, strict=True)
        ),
        start=StartConfig(
            pos=tuple(map(float, built.start_pos)), yaw_deg=math.degrees(float(built.start_yaw))
        ),
        box=BoxConfig(lo=tuple(map(float, built.box_lo)), hi=tuple(map(float, built.box_hi))),
    )


@pytest.mark.parametrize(
    "config",
    [SplitSConfig(), SplitSConfig(layout="classic"), Figure8Config(), Figure8Config(layout="fig8B")],
    ids=lambda c: c.layout,
)
def test_the_published_tracks_are_sound_and_the_same_from_a_file(config):
    own = as_file(config)
    assert list(track_problems(own)) == []
    for ours, theirs in zip(jax.tree.leaves(own.build()), jax.tree.leaves(config.build()), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_example_is_sound_and_longer_than_any_published_track():
    assert list(track_problems(BACKYARD)) == []
    built = BACKYARD.build()
    assert built.num_gates == 9 and float(built.half_opening) == pytest.approx(0.7)
    assert built.physical.tolist() == [0, 1, 2, 3, 4, 5, 6, 3, 7]  # the centre is flown twice


CLEAR = ((0.0, 0.0, 2.0, 0.0), (5.0, 0.0, 2.0, 0.0), (5.0, 5.0, 2.0, 90.0))


@pytest.mark.parametrize(
    ("config", "problems"),
    [
        (track(*CLEAR), []),
        # one frame below the other, as in the Split-S: rims may share a bar, openings stay free
        (track((0.0, 0.0, 3.0, 0.0), (0.0, 0.0, 1.2, 180.0), CLEAR[2]), []),
        (track((0.0, 0.0, 2.5, 0.0), (0.0, 0.0, 1.2, 180.0), CLEAR[2]), ["frames of gates 1 and 2 overlap"]),
        (track((0.0, 0.0, 2.0, 0.0), (0.0, 1.6, 2.0, 0.0), CLEAR[2]), ["frames of gates 1 and 2 overlap"]),
        (track((0.0, 0.0, 2.0, 0.0), (0.0, 1.8, 2.0, 0.0), CLEAR[2]), []),
        # crosswise: the post of one in the middle of the other; past it; one inside the opening of the other
        (track((0.0, 0.0, 2.0, 0.0), (0.85, 0.0, 2.0, 90.0), CLEAR[2]), ["frames of gates 1 and 2 overlap"]),
        (track((0.0, 0.0, 2.0, 0.0), (1.1, 0.0, 2.0, 90.0), CLEAR[2]), []),
        (track((0.0, 0.0, 2.0, 0.0), (0.0, 0.0, 2.0, 90.0), CLEAR[2]), ["frames of gates 1 and 2 overlap"]),
        # both ways through one frame
        (track((0.0, 0.0, 2.0, 0.0), (5.0, 0.0, 2.0, 0.0), (0.0, 0.0, 2.0, 180.0)), []),
        (track(CLEAR[0], CLEAR[0], CLEAR[1]), ["gate 2 is gate 1 again"]),
        (track(CLEAR[0], CLEAR[1], CLEAR[0]), ["gate 1 is gate 3 again"]),
        # so near behind each other that one step passes both
        (track(CLEAR[0], (0.3, 0.2, 2.0, 0.0), CLEAR[2]), ["gate 2 stands 0.30 m behind gate 1: one step"]),
        (track(CLEAR[0], (0.7, 0.2, 2.0, 0.0), CLEAR[2]), []),
        (track((0.0, 0.0, 0.9, 0.0), *CLEAR[1:]), ["rim of gate 1 is 0.12 m below the ground: raise it"]),
        (track(GateConfig(pos=(0.0, 0.0, 0.9), yaw_deg=0.0, lower_rim=False), *CLEAR[1:]), []),
        (
            track(GateConfig(pos=(0.0, 0.0, 0.6), yaw_deg=0.0, lower_rim=False), *CLEAR[1:]),
            ["opening of gate 1 is 0.20 m below the floor"],
        ),
        (track((9.6, 0.0, 2.0, 90.0), *CLEAR[1:]), ["gate 1 reaches 0.35 m out of the box"]),
        (track((12.0, 0.0, 2.0, 0.0), *CLEAR[1:]), ["gate 1 reaches 2.00 m out of the box"]),
        (track((9.7, 0.0, 2.0, 0.0), *CLEAR[1:]), ["gate 1 has less than 0.5 m of the box before or behind"]),
        (track(*CLEAR, start=StartConfig(pos=(0.0, 11.0, 1.0))), ["the start at .* lies outside the box"]),
        (track(*CLEAR, start=StartConfig(pos=(0.0, 0.9, 2.0))), ["the start stands in the frame of gate 1"]),
    ],
)
def test_what_is_wrong_with_a_track_is_found_and_nothing_else(config, problems):
    found = list(track_problems(config))
    assert len(found) == len(problems), found
    for text, expected in zip(found, problems, strict=True):
        assert re.search(expected, text), (text, expected)
    if problems:
        with pytest.raises(ValueError, match="cannot be flown"):
            RacingConfig(track=config)


def test_overlap_is_that_of_points_of_the_two_frames():
    """Against many random points of one frame, looked for in the other, which stands crosswise."""
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(60):
        rows = [(*rng.uniform(-1.2, 1.2, 2), rng.uniform(2.0, 3.0), rng.uniform(0, 360)) for _ in range(2)]
        config = track(*rows, CLEAR[2])
        plates = [checktrack._Plate.of(gate) for gate in config.gates[:2]]
        found = any("overlap" in text for text in track_problems(config))
        if found is not any(_meets(config, *pair, rng) for pair in (plates, plates[::-1])):
            # only where frames barely touch: a little smaller, or a little larger, they do not, or do
            other = replace(config, rim=(0.8 if found else 1.2) * config.rim)
            assert any("overlap" in text for text in track_problems(other)) is not found
        verdicts.append(found)
    assert 10 < sum(verdicts) < 50


def _meets(config, frame, opening, rng):
    half, outer = config.half_opening, config.half_opening + config.rim
    flat = rng.uniform(-outer, outer, (200_000, 2))
    flat = flat[np.abs(flat).max(axis=1) >= half]
    points = frame.pos + np.concatenate([flat[:, :1] * frame.left, flat[:, 1:]], axis=1)
    offset = points - opening.pos
    near = np.abs(offset[:, :2] @ opening.normal) < 0.01
    inside = (np.abs(offset[:, :2] @ opening.left) < outer) & (np.abs(offset[:, 2]) < outer)
    return bool(np.any(near & inside))


def write(path, **changes):
    data = json.loads((FILES / "backyard.json").read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in data.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gates": None}, "field gates is missing"),
        ({"gates": []}, "has 0 gates; it must have 2 to 200"),
        (
            {"gates": [{"pos": [0, 0], "yaw_deg": 0}] * 2},
            r"gates\[0\]\.pos is \[0, 0\]; it must be a list of 3",
        ),
        (
            {"gates": [{"pos": [0, 0, 1], "yaw": 0}] * 2},
            r"unknown field gates\[0\]\.yaw; did you mean 'yaw_deg'",
        ),
        ({"gates": [{"pos": [0, 0, "high"], "yaw_deg": 0}] * 2}, "is 'high'; it must be a number"),
        ({"opening_m": 1.0}, "unknown field opening_m; did you mean 'opening'"),
        ({"opening": math.nan}, "opening is nan; it must be a finite number"),
        ({"opening": -1.0}, "track.opening is -1.0 m; it must be positive"),
        ({"box": {"lo": [0, 0, 0], "hi": [1, -1, 1]}}, "along y; lo must be less than hi"),
    ],
)
def test_a_file_that_is_no_track_is_told_with_file_and_field(changes, message, tmp_path, capsys):
    file = write(tmp_path / "mine.json", **changes)
    with pytest.raises(ConfigError, match=rf"mine\.json: .*{message}"):
        load_track(file)
    with pytest.raises(SystemExit) as caught:
        main(["check-track", str(file)])
    assert caught.value.code == 2 and "mine.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("no.json", None, "cannot be read: No such file"),
        ("no.txt", "{}", r"ends in '\.txt'; give a file of \.json"),
        ("no.json", "{", "it is no JSON"),
        ("no.json", "[1]", "it holds list; an object of fields"),
        ("no.json", "[" * 100_000, "it is no JSON"),
        ("no.json", " " * 2**21, "at most 1,048,576"),
        ("no.json", b"\xff\xfe", "no text in UTF-8"),
    ],
)
def test_a_file_that_is_none_is_told(name, text, message, tmp_path):
    file = tmp_path / name
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message):
        load_track(file)


def test_yaml_is_read_where_it_can_be(tmp_path):
    yaml = pytest.importorskip("yaml")
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(json.loads((FILES / "backyard.json").read_text())))
    assert load_track(file) == BACKYARD
    file.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(ConfigError, match="it is no YAML"):
        load_track(file)


def test_yaml_without_pyyaml_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("s5wm.runs.datafile.find_spec", lambda name: None)
    (tmp_path / "mine.yml").write_text("name: mine")
    with pytest.raises(ConfigError, match="pip install pyyaml, or write the same as JSON"):
        load_track(tmp_path / "mine.yml")


def test_a_track_is_checked_and_drawn_by_commands(tmp_path, capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        return caught.value.code, capsys.readouterr()

    good = str(FILES / "backyard.json")
    assert call("check-track", good)[1].out == "backyard  9 gates, no problem found\n"
    low = write(tmp_path / "low.json", opening=3.0)
    code, said = call("check-track", str(low), "--json")
    report = json.loads(said.out)
    assert code == 1 and not report["sound"] and any("below the ground" in p for p in report["problems"])
    code, said = call("plot", good, "--out", str(tmp_path / "plots"))
    assert code == 0
    for suffix in (".png", ".svg"):
        assert (tmp_path / "plots" / f"backyard{suffix}").stat().st_size > 10_000
        assert f"backyard{suffix}" in said.err


def test_overrides_take_files_and_the_run_needs_them_no_more(tmp_path):
    file = write(tmp_path / "mine.json")
    quad = tmp_path / "quad.json"
    quad.write_text('{"mass": 0.6, "drag": [0.3, 0.3, 0.4]}')
    changed = override(
        preset("race/split-s", "ppo"),
        [f"task.track=file:{file}", f"task.quad=file:{quad}", "task.track.rim=0.25", "task.quad.mass=0.65"],
    )
    assert changed.task.track == replace(BACKYARD, rim=0.25)
    assert changed.task.quad == QuadConfig(mass=0.65, drag=(0.3, 0.3, 0.4))
    file.unlink(), quad.unlink()
    again = decode(type(changed), json.loads(json.dumps(encode(changed))), warn=pytest.fail)
    assert again == changed
    with pytest.raises(ConfigError, match=r"mine\.json: it cannot be read"):
        override(preset("race/split-s", "ppo"), [f"task.track=file:{file}"])
    low = write(tmp_path / "low.json", opening=3.0)
    with pytest.raises(ConfigError, match="cannot be flown: .*below the ground"):
        override(preset("race/split-s", "ppo"), [f"task.track=file:{low}"])


def test_a_race_on_an_own_track_knows_all_its_gates():
    config = RacingConfig(track=BACKYARD, quad=load_quad(FILES / "light_quad.json"))
    env = config.build()
    assert env.spec.privileged_size == target_from("B") + 9
    assert config.state_groups("observation") == race_groups("B", "B")
    state, timestep = jax.jit(lambda keys: jax.vmap(env.restart, (None, 0))(env.reset(jr.key(0))[0], keys))(
        jr.split(jr.key(0), 300)
    )
    onehot = np.asarray(timestep.privileged[:, target_from("B") :])
    np.testing.assert_array_equal(onehot.argmax(1), state.target)
    assert set(onehot.argmax(1)) == set(range(9))
    assert (
        lap_bound(config.track, config.quad, 0.15) is None
        and point_mass_bound(config.track, config.quad) is None
    )
    assert replace(config, camera=CameraConfig(pixels=8)).build().scene.frame_pos.shape == (8, 3)


def test_openings_count_as_they_are():
    with pytest.raises(ValueError, match=r"drone_radius is 0\.15 m; it must lie in \[0, 0\.1\)"):
        RacingConfig(track=track(*CLEAR, opening=0.2))
    with pytest.raises(ValueError, match=r"opening_final is 0\.2; half the opening, 0\.7 m times it"):
        RacingConfig(track=BACKYARD, opening_final=0.2)


def test_an_own_quadrotor_is_its_set_but_for_what_is_given():
    own = QuadConfig(name="kolibri", mass=0.3, rate_damping=(0.5, 0.5, -0.5))
    built, theirs = own.build(), QuadConfig(name="kolibri").build()
    assert float(built.mass) == pytest.approx(0.3) and built.rate_damping.tolist() == [0.5, 0.5, -0.5]
    same = [name for name in vars(theirs) if jnp.array_equal(getattr(built, name), getattr(theirs, name))]
    assert set(vars(theirs)) - set(same) == {"mass", "rate_damping"}
    clipped = QuadConfig(mass=0.5, thrust_to_weight=3.0).build()
    assert float(clipped.thrust_max) == pytest.approx(3.0 * 0.5 * GRAVITY / 4.0)
    assert lap_bound(SplitSConfig(), QuadConfig(), 0.15) is not None
    assert lap_bound(SplitSConfig(), QuadConfig(drag=(0.1, 0.1, 0.1)), 0.15) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mass": 0.0}, r"quad\.mass is 0\.0; it must be positive"),
        ({"mass": 10.0}, "times the weight of 10.0 kg; it must lie in"),
        ({"thrust_max": 50.0}, "change mass, thrust_max"),
        ({"inertia": (1e-3, -1e-3, 1e-3)}, r"quad\.inertia is .*positive"),
        ({"drag": (-0.1, 0.0, 0.0)}, r"quad\.drag is .*at least 0"),
        ({"lift": math.inf}, r"quad\.lift is inf; it must be finite"),
        ({"rotor_speed_min": 3000.0}, "less than rotor_speed_max"),
        ({"thrust_max": 5.0, "thrust_to_weight": 3.0}, "leave out one of them"),
    ],
)
def test_a_quadrotor_that_cannot_fly_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        QuadConfig(**fields)


@pytest.mark.faults  # test_evaluation.py judges flights without a bound
def test_a_training_on_an_own_track_is_judged_without_a_bound(tmp_path, capsys):
    tiny = [
        "train.num_envs=4",
        "train.rollout_length=8",
        "agent.units=4",
        "agent.layers=1",
        "agent.minibatches=2",
    ]
    tiny += ["train.eval_episodes=2", f"task.track=file:{FILES / 'backyard.json'}", "task.quad.mass=0.7"]
    options = [word for item in tiny for word in ("--override", item)]
    run = tmp_path / "run"
    with pytest.raises(SystemExit) as caught:
        main(
            [
                "train",
                "race/split-s",
                "--agent",
                "ppo",
                "--env-steps",
                "64",
                "--run",
                str(run),
                "--json",
                *options,
            ]
        )
    assert caught.value.code == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["bound_s"] is None and metrics["above_bound_percent"] is None
    assert metrics["config"]["task"]["track"]["name"] == "backyard"
