"""Videos of episodes: every picture says which episode it shows and how that goes."""

import numpy as np
import pytest
from PIL import Image

from s5wm.envs.host import HostTimeStep
from s5wm.evaluation.filming import _caption
from s5wm.plots.video import LEAST_SIDE, write_video


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
    assert _caption(1, 12.345, now) == words


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
