"""Arrays and images as text that a page can hold."""

import base64
import io
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

MISSING = 65535
"""What stands for NaN; other whole numbers count from the smallest to the largest value."""


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


def unpacked(given: dict[str, Any]) -> Shaped[np.ndarray, "..."]:
    """The inverse of ``packed``, as the page has it."""
    codes = np.frombuffer(base64.b64decode(given["data"]), "<u2").reshape(given["shape"])
    values = given["low"] + given["step"] * codes.astype(np.float64)
    return np.where(codes == MISSING, np.nan, values)


def sprite(images: UInt8[np.ndarray, "K h w c"], *, quality: int = 85) -> dict[str, Any]:
    """Many small images of one size as tiles of one JPEG, row by row."""
    from PIL import Image

    images = images[..., :3] if images.shape[-1] >= 3 else images[..., :1]
    count, height, width, channels = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = int(np.ceil(count / columns))
    sheet = np.zeros((rows * height, columns * width, channels), np.uint8)
    for index, image in enumerate(images):
        y, x = divmod(index, columns)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = image
    file = io.BytesIO()
    Image.fromarray(sheet if channels == 3 else sheet[..., 0]).save(file, "JPEG", quality=quality)
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return {"width": width, "height": height, "columns": columns, "source": f"data:image/jpeg;base64,{text}"}
