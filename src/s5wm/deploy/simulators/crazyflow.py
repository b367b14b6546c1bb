"""crazyflow's first-principles quadrotor with the parameters of our vehicle.

Theirs: rigid body, motors, drag, the gyroscopic torque of the rotors, fixed-step integration.  Ours: the rate
controller, 500 times a second, since theirs is tuned for a drone of 40 g.  Not in theirs: translational lift.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import VehicleCard
from s5wm.deploy.runtime.plant import Body, Quadrotor
from s5wm.errors import ConfigError

SWITCH = "SCIPY_ARRAY_API"

RATE = 500
"""Motor commands per second."""

SUBSTEPS = 2
"""Integration steps per motor command."""

RPM = 60.0 / math.tau
"""Of 1 rad/s."""


class CrazyflowVehicle:
    """``Dynamics`` of the runtime's simulation; the state of a flight stays in crazyflow between two calls."""

    def __init__(self, card: VehicleCard) -> None:
        try:
            from crazyflow.control import Control  # pyright: ignore[reportMissingImports]
        except RuntimeError as error:  # how it says so, where SciPy was imported before it
            raise ConfigError(
                f"crazyflow needs the environment variable {SWITCH}: {SWITCH}=1 s5wm ..."
            ) from error
        from crazyflow.dynamics import Dynamics  # pyright: ignore[reportMissingImports]
        from crazyflow.sim import Sim  # pyright: ignore[reportMissingImports]
        from crazyflow.sim import functional as F  # pyright: ignore[reportMissingImports]
        from crazyflow.sim.integration import Integrator  # pyright: ignore[reportMissingImports]

        self._ours = Quadrotor(card)
        self._sim: Any = Sim(
            dynamics=Dynamics.first_principles,
            control=Control.rotor_vel,
            integrator=Integrator.rk4,
            freq=RATE * SUBSTEPS,
        )
        low, high = card.rotor_speed_min * RPM, card.rotor_speed_max * RPM

        def limit(data: Any) -> Any:
            speeds = jnp.clip(data.controls.rotor_vel, low, high)
            return data.replace(controls=data.controls.replace(rotor_vel=speeds))

        self._sim.step_pipeline["clip_rotor_vel_cmd"] = limit  # which has the limits of a Crazyflie
        step = self._sim.build_step_fn()

        @jax.jit
        def advance(data: Any, speeds: Any) -> tuple[Any, Any]:
            data = step(F.rotor_vel_control(data, speeds[None, None]), n_steps=SUBSTEPS)
            states = data.states
            parts = (states.pos, states.vel, states.quat, states.ang_vel, states.rotor_vel)
            return data, jnp.concatenate([part[0, 0] for part in parts])

        self._advance = advance
        params = self._sim.data.params
        changed = {name: _shaped(value, getattr(params, name)) for name, value in parameters_of(card).items()}
        self._data = self._sim.data.replace(params=params.replace(**changed))

    def begin(self, body: Body) -> Body:
        """Start from this state."""
        states = self._data.states
        changed = {
            "pos": body.pos_w,
            "vel": body.vel_w,
            "quat": body.quat[[1, 2, 3, 0]],
            "ang_vel": body.omega_b,
            "rotor_vel": body.rotor_speed * RPM,
        }
        replaced = {name: _shaped(value, getattr(states, name)) for name, value in changed.items()}
        self._data = self._data.replace(states=states.replace(**replaced))
        return body

    def fly(self, body: Body, action: Float[np.ndarray, " 4"], seconds: float) -> Body:
        """The state after a command was held for so long; ``body`` is what the last call has returned."""
        for _ in range(round(seconds * RATE)):
            speeds = self._ours.rotor_targets(body, action) * RPM
            self._data, numbers = self._advance(self._data, jnp.asarray(speeds, jnp.float32))
            body = _ours(np.asarray(numbers, np.float64))
        return body


def parameters_of(card: VehicleCard) -> dict[str, Any]:
    """Parameters of our vehicle for crazyflow: rotor speeds in RPM, levers in the mixing matrix."""
    x, y = np.array(card.rotor_pos).T
    inertia, thrust = np.diag(card.inertia), card.thrust_coeff / RPM**2
    return {
        "mass": card.mass,
        "L": 1.0,
        "prop_inertia": card.rotor_inertia,
        "J": inertia,
        "J_inv": np.linalg.inv(inertia),
        "rpm2thrust": np.array([0.0, 0.0, thrust]),
        "rpm2torque": np.array([0.0, 0.0, card.torque_coeff * thrust]),
        "mixing_matrix": np.stack([y, -x, np.array(card.spin)]),
        "drag_matrix": -np.diag(card.drag),
        "rotor_dyn_coef": np.array([1.0, 0.0, 1.0, 0.0]) / card.motor_tau,
    }


def _shaped(value: Any, like: Any) -> Any:
    """The value in every world and drone."""
    return jnp.broadcast_to(jnp.asarray(value, like.dtype), like.shape)


def _ours(y: Float[np.ndarray, " 17"]) -> Body:
    quat = y[[9, 6, 7, 8]]
    return Body(y[0:3], y[3:6], quat / np.linalg.norm(quat), y[10:13], y[13:17] / RPM)
