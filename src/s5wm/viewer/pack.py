"""Arrays and images as text that a page can hold."""

import base64
import io
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from s5wm.runs.images import rgb

MISSING = 65535
"""What stands for NaN; other whole numbers count from the smallest to the largest value."""

FAR = 100.0
"""Ranges of the real values beyond which a prediction is as far as any: a page shows little more than one of them."""

ROOM = 1.0
"""Sizes of what was flown by which a drawn future may leave it."""

LEAST_SIZE = 5.0
"""m: a flight that stays nearly where it began has the room of one of this size."""


def packed(values: Shaped[np.ndarray, "..."]) -> dict[str, Any]:
    """Numbers as 16-bit steps between their smallest and largest one: 0.3 mm on a track of 20 m."""
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    step = (high - low) / (MISSING - 1) or 1.0
    known = np.isfinite(array)
    codes = np.where(known, np.round((np.where(known, array, low) - low) / step), MISSING).astype("<u2")
    text = base64.b64encode(codes.tobytes()).decode("ascii")
    return {"shape": list(array.shape), "low": low, "step": step, "data": text}


def band_of(
    predicted: Float[np.ndarray, "M S H"], real: Float[np.ndarray, " T"]
) -> Float[np.ndarray, "M 3 H"]:
    """Smallest, median and largest prediction; NaN where nothing is predicted.

    Numbers ``FAR`` beyond the real ones stop there: all of a curve share one scale, and one that diverged would leave
    no steps for the others.  A NaN among predictions is none.
    """
    known = real[np.isfinite(real)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    reach = FAR * max(high - low, 1e-3 * abs(low), 1e-3 * abs(high), 1e-6)
    near = np.moveaxis(np.clip(predicted, low - reach, high + reach), 1, -1)
    band = np.full((*near.shape[:2], 3), np.nan)
    counts = np.isfinite(near).any(axis=-1)
    ordered = [of(near[counts], axis=-1) for of in (np.nanmin, np.nanmedian, np.nanmax)]
    band[counts] = np.stack(ordered, axis=-1)
    return np.moveaxis(band, -1, 1)


def within(
    futures: Float[np.ndarray, "M S H 3"], flown: Float[np.ndarray, "T 3"]
) -> Float[np.ndarray, "M S H 3"]:
    """Positions up to where each future leaves the room around the flight, NaN from there on."""
    low, high = flown.min(axis=0), flown.max(axis=0)
    room = ROOM * max(float(np.linalg.norm(high - low)), LEAST_SIZE)
    inside = np.all((futures >= low - room) & (futures <= high + room), axis=-1)
    return np.where(np.logical_and.accumulate(inside, axis=-1)[..., None], futures, np.nan)


def unpacked(given: dict[str, Any]) -> Shaped[np.ndarray, "..."]:
    """The inverse of ``packed``, as the page has it."""
    codes = np.frombuffer(base64.b64decode(given["data"]), "<u2").reshape(given["shape"])
    values = given["low"] + given["step"] * codes.astype(np.float64)
    return np.where(codes == MISSING, np.nan, values)


def sprite(images: UInt8[np.ndarray, "K h w c"], *, quality: int = 85) -> dict[str, Any]:
    """Many small images of one size as tiles of one JPEG, row by row."""
    from PIL import Image

    images = rgb(images)
    count, height, width, channels = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = int(np.ceil(count / columns))
    sheet = np.zeros((rows * height, columns * width, channels), np.uint8)
    for index, image in enumerate(images):
        y, x = divmod(index, columns)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = image
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "JPEG", quality=quality)
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return {"width": width, "height": height, "columns": columns, "source": f"data:image/jpeg;base64,{text}"}
