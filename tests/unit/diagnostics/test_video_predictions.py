import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.diagnostics.run import fly_streams
from s5wm.diagnostics.video_predictions import ghost_images, pixel_errors, predict_videos
from s5wm.envs.racing.camera import CameraConfig
from s5wm.envs.racing.task import RacingEnv
from s5wm.envs.racing.tasks import figure_8_by_camera
from s5wm.envs.wrappers import AutoReset
from s5wm.nn.conv import PatchConfig
from s5wm.plots.run import draw_imagined
from s5wm.plots.video_predictions import FRAMES, draw_video_predictions
from s5wm.runs.video_predictions import VideoPrediction, load_video_predictions, save_video_predictions

from .oracle import CONFIG

HORIZON = 5
TASK = dataclasses.replace(
    figure_8_by_camera(), camera=CameraConfig(pixels=16, supersample=1), episode_seconds=0.4
)


@pytest.fixture(scope="module")
def env() -> RacingEnv:
    return TASK.build()


def test_the_ghost_of_the_truth_sees_what_the_camera_saw(env: RacingEnv) -> None:
    _, timesteps = jax.jit(jax.vmap(env.reset))(jr.split(jr.key(3), 6))
    difference = ghost_images(env, timesteps.privileged).astype(int) - timesteps.obs.astype(int)
    # Edges may fall on the other side of a pixel by rounding.
    assert float((jnp.abs(difference) > 2).mean()) < 0.01
    moved = timesteps.privileged.at[:, 0].add(0.1)
    assert float((jnp.abs(ghost_images(env, moved).astype(int) - timesteps.obs) > 2).mean()) > 0.1


def test_frames_of_later_episodes_count_as_no_error_and_are_not_drawn() -> None:
    """Images of the first 3 of 5 steps are right, those after the episode's end are of another."""
    real = np.zeros((6, 4, 4, 3), np.uint8)
    predicted = real.copy()
    predicted[4:] = 255
    one = VideoPrediction(dt=0.1, real=real, estimated=real, predicted=predicted, is_ghost=False, steps=3)
    band = pixel_errors([one])
    np.testing.assert_array_equal(band.median, [0.0, 0.0, 0.0, np.nan, np.nan])
    shown = [axes.get_images()[0].get_array() for axes in draw_video_predictions([one], "x").axes]
    assert len(shown) == 3 * FRAMES and not any(image.any() for image in shown)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_film_strips_show_any_number_of_channels(channels: int, tmp_path: Path) -> None:
    """Grey is what it is: 100 of 255 is not stretched to black or white."""
    images = np.random.default_rng(0).integers(0, 255, (6, 4, 4, channels)).astype(np.uint8)
    images[..., 0] = 100
    one = VideoPrediction(dt=0.1, real=images, estimated=images, predicted=images, is_ghost=False, steps=5)
    save_video_predictions(tmp_path / "plots" / "video_prediction.npz", [one])
    drawn = draw_imagined(tmp_path)
    assert not drawn.damaged and (tmp_path / "plots" / "video_prediction.png").stat().st_size > 5_000
    for axes in draw_video_predictions([one], "x").axes:
        image = axes.get_images()[0]
        shown = np.round(255 * image.to_rgba(image.get_array(), norm=False)[..., :3]).astype(int)
        if channels < 3:
            assert (shown == 100).all()
        else:
            assert (shown == images[0, ..., :3]).all(-1).any() or (shown[..., 0] == 100).all()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["observation", "privileged"])
def test_dreams_are_made_saved_and_drawn(env: RacingEnv, target: str, tmp_path: Path) -> None:
    world_model = dataclasses.replace(
        CONFIG.world_model, target=target, image=PatchConfig(patch=8, depth=4, multipliers=(1,))
    )
    agent = dataclasses.replace(CONFIG, world_model=world_model).build(env.spec, num_envs=2)
    learner = jax.jit(agent.init)(jr.key(0))
    rows = fly_streams(AutoReset(env), agent.policy(learner), episodes=2, length=21, key=jr.key(1))
    predictions = predict_videos(learner.params.world_model, env, rows, horizon=HORIZON, key=jr.key(2))
    assert predictions and predictions[0].is_ghost == (target == "privileged")
    for one in predictions:
        assert one.real.shape == one.estimated.shape == one.predicted.shape == (HORIZON + 1, 16, 16, 3)
        np.testing.assert_array_equal(one.estimated[0], one.predicted[0])
    assert any(np.any(one.real[0] != one.real[-1]) for one in predictions)
    save_video_predictions(tmp_path / "video_prediction.npz", predictions)
    for one, other in zip(
        predictions, load_video_predictions(tmp_path / "video_prediction.npz"), strict=True
    ):
        np.testing.assert_array_equal(one.predicted, other.predicted)
    # An episode of 21 time steps ends in the stream of 21: the longest prediction within it is whole.
    assert all(0 <= one.steps <= HORIZON for one in predictions)
    assert max(one.steps for one in predictions) == HORIZON
    band = pixel_errors(predictions)
    assert band.median.shape == (HORIZON,) and np.all(band.lo <= band.median)
    assert len(draw_video_predictions(predictions, "a prediction").axes) % FRAMES == 0
