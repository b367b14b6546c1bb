"""``render_mode`` and ``info`` of the Gymnasium ids: pictures that RecordVideo takes, and what an episode came to."""

import sys
import types

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

gym = pytest.importorskip("gymnasium")

from gymnasium.wrappers import RecordVideo  # noqa: E402

from s5wm.envs.gymnasium import GymEnv, GymVectorEnv  # noqa: E402
from s5wm.envs.hover import HoverConfig  # noqa: E402
from s5wm.envs.racing.laps import NO_TIME, Ending  # noqa: E402
from s5wm.envs.racing.task import RacingConfig  # noqa: E402
from s5wm.envs.toys import ChainConfig  # noqa: E402
from s5wm.envs.wrappers import TimeLimit  # noqa: E402

HOVER = HoverConfig(seconds=0.1).build()
NOTHING = np.zeros(4, np.float32)


@pytest.fixture
def films(monkeypatch):
    """What moviepy would write, without moviepy: (frames, frames per second) of each video."""
    written = []

    class Clip:
        def __init__(self, frames, fps):
            self.frames, self.fps = frames, fps

        def write_videofile(self, path, **options):
            written.append((np.array(self.frames), self.fps))

    clips = types.ModuleType("moviepy.video.io.ImageSequenceClip")
    clips.ImageSequenceClip = Clip
    for name in ("moviepy", "moviepy.video", "moviepy.video.io"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, clips.__name__, clips)
    return written


def test_a_video_is_recorded(films, tmp_path):
    env = gym.make("s5wm/Hover-v0", config=HoverConfig(seconds=0.1), render_mode="rgb_array")
    env = RecordVideo(env, str(tmp_path / "films"), episode_trigger=lambda episode: True, disable_logger=True)
    for _ in range(2):
        env.reset(seed=0)
        ended = False
        while not ended:
            _, _, terminated, truncated, info = env.step(NOTHING)
            ended = terminated or truncated
    assert info["ending"] == "TIME_LIMIT"
    env.close()
    assert len(films) == 2
    frames, fps = films[0]
    assert frames.shape == (6, 400, 600, 3) and frames.dtype == np.uint8 and fps == 50
    assert (frames[1:] != frames[:-1]).any(axis=(1, 2, 3)).all()  # it moves
    np.testing.assert_array_equal(frames, films[1][0])  # one seed, one film: nothing is left of the first


def test_every_copy_is_drawn_in_its_own_picture():
    envs = GymVectorEnv(TimeLimit(HOVER, steps=4), 2, render_mode="rgb_array")
    with pytest.raises(gym.error.ResetNeeded, match="before render"):
        envs.render()
    envs.reset(seed=3)
    single = GymEnv(TimeLimit(HOVER, steps=4), render_mode="rgb_array")
    single.reset(seed=4)
    for _ in range(6):  # beyond an end
        envs.step(np.zeros((2, 4), np.float32))
        *_, terminated, truncated, _ = single.step(NOTHING)
    first, second = envs.render()
    assert first.shape == (400, 600, 3) and (first != second).any()
    np.testing.assert_array_equal(second, single.render())


def test_a_race_is_drawn_on_its_course_and_tells_of_itself():
    env = GymEnv(RacingConfig().build(), render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    *_, terminated, truncated, info = env.step(np.array([-1.0, 0.0, 0.0, 0.0], np.float32))
    assert (env.render() != before).any()
    assert before.std() > 10.0  # gates, ground and words
    while not (terminated or truncated):
        assert info["ending"] == "FLYING" and info["crash"] is False
        *_, terminated, truncated, info = env.step(np.array([-1.0, 1.0, 0.0, 0.0], np.float32))
    assert terminated and info["crash"] is True and info["ending"] in Ending.__members__
    assert isinstance(info["gates"], int) and info["laps"] == 0
    assert info["lap_time_last"] == 0.0 and info["lap_times"].shape == (16,) and not info["lap_times"].any()
    assert info["seconds"] > 0.1 and info["top_speed"] > 0.1


def test_lap_times_of_info_are_those_of_the_clock():
    env = RacingConfig().build()
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
    times = jnp.full(16, NO_TIME).at[0].set(6.5).at[1].set(5.5)
    clock = type(state.clock)(jnp.asarray(2), times, jnp.zeros(()), jnp.zeros(()))
    metrics = env.drone(type(state)(**{**vars(state), "clock": clock})).metrics
    assert metrics["lap_times"].tolist() == [6.5, 5.5, *[0.0] * 14]
    assert float(metrics["lap_time_last"].value) == 5.5 and int(metrics["laps"]) == 2


@pytest.mark.parametrize(
    ("config", "mode", "message"),
    [
        (HOVER, "ansi", "render_mode is 'ansi'; choose of rgb_array, human, or None"),
        (ChainConfig().build(), "rgb_array", "no drone flies in it"),
    ],
)
def test_a_mode_that_there_is_not_is_refused_at_once(config, mode, message):
    with pytest.raises(ValueError, match=message):
        GymEnv(config, render_mode=mode)


def test_a_window_needs_a_screen():
    env = GymEnv(HOVER, render_mode="human")
    with pytest.raises(RuntimeError, match=r"matplotlib draws with 'agg' here; .*RecordVideo"):
        env.reset(seed=0)


def test_a_window_shows_every_step(monkeypatch):
    """On a backend without a screen that is taken for one with."""
    import matplotlib.pyplot as plt
    from matplotlib.backends import backend_registry

    monkeypatch.setattr(backend_registry, "list_builtin", lambda kind: [mpl.get_backend().lower()])
    env = GymEnv(HOVER, render_mode="human")
    env.reset(seed=0)
    figure = plt.gcf()
    shown = [figure.axes[0].images[0].get_array().copy()]
    for _ in range(3):
        env.step(NOTHING)
        assert env.render() is None
        shown.append(figure.axes[0].images[0].get_array().copy())
    assert all((one != other).any() for one, other in zip(shown, shown[1:], strict=False))
    env.close()
    assert figure.number not in plt.get_fignums()


def test_who_renders_without_a_mode_is_told():
    env = GymEnv(HOVER)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert env.render() is None
