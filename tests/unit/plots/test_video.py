"""Videos of episodes: every picture says which episode it shows and how that goes."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from s5wm.actions import Box
from s5wm.agents.base import AbstractPolicy
from s5wm.envs.base import AbstractEnv
from s5wm.envs.host import HostTimeStep
from s5wm.envs.wrappers import TimeLimit
from s5wm.errors import ConfigError
from s5wm.evaluation.filming import _caption, _checked, _success, film_compiled
from s5wm.plots.video import LEAST_SIDE, _thinned, write_video
from s5wm.types import EnvSpec, OptionalMetric, first_step, later_step


def latest(*, is_last: bool, **metrics: float) -> HostTimeStep:
    flags = {name: np.array([False]) for name in ("is_first", "is_terminal", "cut")}
    return HostTimeStep(
        obs=np.zeros((1, 2)),
        reward=np.zeros(1),
        is_last=np.array([is_last]),
        metrics={name: np.array([value]) for name, value in metrics.items()},
        **flags,
    )


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (latest(is_last=False), "episode 2, return 12.3"),
        (latest(is_last=True), "episode 2, return 12.3"),  # the environment reports no success
        (latest(is_last=True, success=1.0), "episode 2, return 12.3, success"),
        (latest(is_last=True, success=0.0), "episode 2, return 12.3, no success"),
        (latest(is_last=True, success=float("nan")), "episode 2, return 12.3"),
    ],
)
def test_a_caption_tells_episode_return_and_at_the_end_success(now, words):
    assert _caption(1, 12.345, _success(now)) == words


class Counter(AbstractEnv):
    """Counts to its third step; its picture has the count in red, and its success is the count over three."""

    has_pictures: bool = eqx.field(static=True)

    @property
    def spec(self):
        return EnvSpec((1,), np.dtype(np.float32), Box((1,)), ctrl_dt=0.1)

    def reset(self, key):
        return jnp.zeros(()), first_step(jnp.zeros(1))

    def step(self, state, action, key):
        ended = state >= 2.0
        return state + 1.0, later_step(state[None], 0.5 + action[0], is_last=ended, is_terminal=ended)

    def episode_metrics(self, state):
        return {"success": OptionalMetric(state / 3.0, state > 0.0)}

    def render(self, state):
        if not self.has_pictures:
            return None
        return np.full((4, 6, 3), [10 * int(state), 0, 0], np.uint8)


class Still(AbstractPolicy):
    def initial(self):
        return jnp.zeros(())

    def __call__(self, carry, obs, is_first, *, key):
        return carry, jnp.zeros(1), None


def test_an_environment_in_jax_is_filmed_state_by_state():
    env = TimeLimit(Counter(has_pictures=True), 10)
    shots = film_compiled(env, Still(), episodes=2, max_steps=10, seed=0)
    assert [int(picture[0, 0, 0]) for picture, _ in shots] == [0, 10, 20, 30] * 2
    assert [words for _, words in shots[:4]] == [
        "episode 1, return 0.0",
        "episode 1, return 0.5",
        "episode 1, return 1.0",
        "episode 1, return 1.5, success",
    ]
    assert len(film_compiled(env, Still(), episodes=1, max_steps=2, seed=0)) == 3
    thinned = [words for _, words in _thinned(shots, 3)]
    assert thinned[:3] == ["episode 1, return 0.0", "episode 1, return 1.5, success", "episode 2, return 1.0"]
    assert thinned[-1] == "episode 2, return 1.5, success"
    with pytest.raises(ConfigError, match=r"renders float64; a video needs numbers from 0 to 255 as uint8"):
        _checked(np.ones((4, 6, 3)), "render(state)")
    with pytest.raises(ConfigError, match=r"renders nothing; .* from render\(state\)"):
        film_compiled(Counter(has_pictures=False), Still(), episodes=1, max_steps=3, seed=0)


def test_a_gif_has_the_caption_over_every_picture_and_none_of_it_is_covered(tmp_path):
    blue = np.zeros((64, 64, 3), np.uint8)
    blue[..., 2] = 255
    write_video([(blue, "episode 1, return -1000.0, no success"), (blue, "")], 0.1, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as gif:
        wide, high = gif.size
        assert wide == LEAST_SIDE and high > LEAST_SIDE and gif.n_frames == 2
        pixels = np.asarray(gif.convert("RGB"))
    room = high - LEAST_SIDE
    dark = pixels[:room].max(axis=-1) < 128
    assert dark.any() and not dark[:, -1].any()  # the words end before the edge
    assert np.all(pixels[room:] == [0, 0, 255])
