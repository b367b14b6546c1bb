"""rotorpy's multirotor with the parameters of our vehicle.

Theirs: rigid body, motors, drag of each rotor in proportion to its speed and its own airspeed, translational lift of
each rotor, an adaptive integrator.  Ours: the rate controller, 500 times a second, since theirs is one gain that does
not know how slow the motors are.  Not in theirs: the torque of rotors that speed up.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import VehicleCard
from s5wm.deploy.runtime.plant import Body, Quadrotor

STEP = 2e-3
"""s between two motor commands."""


class RotorpyVehicle:
    """``Dynamics`` of the runtime's simulation."""

    def __init__(self, card: VehicleCard) -> None:
        from rotorpy.vehicles.multirotor import Multirotor  # pyright: ignore[reportMissingImports]

        self._ours = Quadrotor(card)
        self._theirs: Any = Multirotor(
            parameters_of(card), control_abstraction="cmd_motor_speeds", integrator_kwargs={"method": "RK23"}
        )

    def begin(self, body: Body) -> Body:
        """As it is."""
        return body

    def fly(self, body: Body, action: Float[np.ndarray, " 4"], seconds: float) -> Body:
        """The state after a command was held for so long."""
        for _ in range(round(seconds / STEP)):
            speeds = self._ours.rotor_targets(body, action)
            body = _ours(self._theirs.step(_theirs(body), {"cmd_motor_speeds": speeds}, STEP))
        return body


def parameters_of(card: VehicleCard) -> dict[str, Any]:
    """Parameters of our vehicle for rotorpy; drag equals ours at the rotor speed of a hover."""
    hover = float(Quadrotor(card).at_rest((0.0, 0.0, 0.0), 0.0).rotor_speed[0])
    across, along = 0.5 * (card.drag[0] + card.drag[1]), card.drag[2]
    return {
        "mass": card.mass,
        **dict(zip(("Ixx", "Iyy", "Izz"), card.inertia, strict=True)),
        **dict.fromkeys(("Ixy", "Iyz", "Ixz", "k_flap"), 0.0),
        "num_rotors": 4,
        "rotor_pos": {f"r{i + 1}": np.array([x, y, 0.0]) for i, (x, y) in enumerate(card.rotor_pos)},
        "rotor_directions": np.array(card.spin),
        "rotor_speed_min": card.rotor_speed_min,
        "rotor_speed_max": card.rotor_speed_max,
        "k_eta": card.thrust_coeff,
        "k_m": card.torque_coeff * card.thrust_coeff,
        "k_d": across / (4.0 * hover),
        "k_z": along / (4.0 * hover),
        "k_h": card.lift / 4.0,
        "tau_m": card.motor_tau,
    }


def _theirs(body: Body) -> dict[str, Float[np.ndarray, " N"]]:
    return {
        "x": body.pos_w,
        "v": body.vel_w,
        "q": body.quat[[1, 2, 3, 0]],
        "w": body.omega_b,
        "wind": np.zeros(3),
        "rotor_speeds": body.rotor_speed,
    }


def _ours(state: dict[str, Any]) -> Body:
    return Body(state["x"], state["v"], state["q"][[3, 0, 1, 2]], state["w"], state["rotor_speeds"])
