"""Images of any number of channels as colours that a picture can show."""

import numpy as np
from jaxtyping import UInt8


def rgb(images: UInt8[np.ndarray, "*b h w c"]) -> UInt8[np.ndarray, "*b h w 3"]:
    """The first three channels as colours, or the first one as grey where there are fewer."""
    return images[..., :3] if images.shape[-1] >= 3 else np.repeat(images[..., :1], 3, axis=-1)
