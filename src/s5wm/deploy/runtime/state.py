"""The state of a quadrotor as an estimator outputs it, and its rotations."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class VehicleState:
    """One estimate; SI units, ``_w`` world frame (z up), ``_b`` body frame (FLU)."""

    time: float  # s on the clock of the runtime, when this was true
    pos_w: Vector
    vel_w: Vector
    quat: Float[np.ndarray, " 4"]  # body to world, w first
    omega_b: Vector
    fault: str | None = None  # why its source gives no attitude at all, in one word


def to_matrix(quat: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "3 3"]:
    """Body to world; its columns are the body axes in world coordinates."""
    w, x, y, z = (float(part) for part in quat)
    return np.array(
        [
            [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
            [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
            [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
        ]
    )


def from_yaw(yaw: float) -> Float[np.ndarray, " 4"]:
    """Level, the nose at ``yaw`` rad from world x."""
    return np.array([np.cos(0.5 * yaw), 0.0, 0.0, np.sin(0.5 * yaw)])
