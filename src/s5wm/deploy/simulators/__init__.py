"""External simulators as dynamics of the runtime's simulation: their rigid body, motors and rate controller."""

from importlib.metadata import PackageNotFoundError, version

from s5wm.deploy.card import VehicleCard
from s5wm.deploy.runtime.simulation import Dynamics
from s5wm.errors import ConfigError

SIMULATORS = ("rotorpy", "crazyflow")


def simulator_version(name: str) -> str:
    """Name and version of an installed simulator; raises ``ConfigError`` where it is missing or unknown."""
    if name not in SIMULATORS:
        raise ConfigError(f"there is no simulator {name!r}; it must be one of {', '.join(SIMULATORS)}")
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError as error:
        raise ConfigError(f"{name} is not installed: pip install 's5wm[{name}]'") from error


def load_simulator(name: str, card: VehicleCard) -> Dynamics:
    """One vehicle in the simulator of that name."""
    simulator_version(name)
    if name == "rotorpy":
        from s5wm.deploy.simulators.rotorpy import RotorpyVehicle

        return RotorpyVehicle(card)
    from s5wm.deploy.simulators.crazyflow import CrazyflowVehicle

    return CrazyflowVehicle(card)
