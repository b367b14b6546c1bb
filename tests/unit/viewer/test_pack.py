"""Arrays and images come back from a page as they were, whatever else it holds."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from s5wm.viewer.pack import band_of, packed, sprite, unpacked, within


def test_numbers_come_back_from_a_page_to_the_step() -> None:
    values = np.random.default_rng(0).uniform(-10, 10, (5, 7))
    values[2, 3] = np.nan
    back = unpacked(packed(values))
    assert np.nanmax(np.abs(back - values)) <= 20 / 65534
    assert np.isnan(back[2, 3]) and np.isnan(back).sum() == 1
    assert np.isnan(unpacked(packed(np.full(3, np.nan)))).all()
    assert unpacked(packed(np.full(3, 2.5))) == pytest.approx([2.5] * 3)


def test_a_prediction_that_diverged_moves_no_other_band() -> None:
    """Page and back: 2e5 among numbers near 1, and a NaN among numbers."""
    real = np.linspace(0.0, 1.0, 9)
    predicted = np.random.default_rng(0).uniform(0.0, 1.0, (4, 3, 6))
    good = unpacked(packed(band_of(predicted, real)))
    assert good == pytest.approx(np.sort(predicted, axis=1), abs=1e-4)
    bad = predicted.copy()
    bad[2, 1, 3:], bad[2, 1, 5], bad[1, 0, 2], bad[3, :, 4:] = 2e5, np.inf, np.nan, np.nan
    found = unpacked(packed(band_of(bad, real)))
    expected = np.sort(predicted, axis=1)
    assert found[0] == pytest.approx(expected[0], abs=2e-3)
    assert found[2, :, :3] == pytest.approx(expected[2, :, :3], abs=2e-3)
    others = np.sort(predicted[2, [0, 2], 3:], axis=0)
    assert found[2, :2, 3:] == pytest.approx(others, abs=2e-3)  # the smallest, and the largest that is finite
    assert found[2, 2, 3:] == pytest.approx(101.0)  # far above the panel
    rest = np.sort(predicted[1, 1:, 2])
    assert found[1, :, 2] == pytest.approx([rest[0], rest.mean(), rest[1]], abs=2e-3)
    assert np.isnan(found[3, :, 4:]).all() and np.isfinite(found[3, :, :4]).all()


def test_a_future_that_leaves_the_room_of_the_flight_ends_there() -> None:
    flown = np.linspace([0.0, 0.0, 1.0], [3.0, 4.0, 1.0], 20)
    futures = np.broadcast_to(np.array([2.0, 2.0, 1.0]), (2, 2, 5, 3)).copy()
    futures[1, 0, 2:] = [2e5, 0.0, 0.0]
    futures[1, 1, 4] = np.nan
    found = within(futures, flown)
    assert np.isnan(found[1, 0, 2:]).all() and np.isnan(found[1, 1, 4]).all()
    kept = np.isfinite(found)
    assert kept.sum() == futures.size - 3 * 3 - 3
    np.testing.assert_allclose(unpacked(packed(found))[kept], futures[kept], atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2])
def test_few_channels_are_grey(channels: int) -> None:
    image = np.full((1, 8, 8, channels), 100, np.uint8)
    sheet = sprite(image)
    with Image.open(io.BytesIO(base64.b64decode(sheet["source"].partition(",")[2]))) as read:
        assert np.abs(np.asarray(read.convert("RGB")).astype(int) - 100).max() <= 2


def test_images_are_tiles_of_one_picture() -> None:
    sheet = sprite(np.zeros((10, 4, 6, 5), np.uint8))
    assert (sheet["width"], sheet["height"], sheet["columns"]) == (6, 4, 4)
    assert sheet["source"].startswith("data:image/jpeg;base64,")
