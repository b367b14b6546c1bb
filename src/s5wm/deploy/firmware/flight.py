"""Flights behind the firmware: ``s5wm fly --target betaflight``, and several of them."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from s5wm.deploy.card import VehicleCard
from s5wm.deploy.firmware.build import find_firmware
from s5wm.deploy.firmware.process import FirmwareProcess
from s5wm.deploy.firmware.setup import configured
from s5wm.deploy.firmware.sticks import settings_of
from s5wm.deploy.firmware.vehicle import FirmwareVehicle
from s5wm.deploy.runtime.fly import FlightPlan, fly_simulated, open_export, room_for_flight
from s5wm.deploy.runtime.pilot import check_card


@contextmanager
def firmware_vehicle(card: VehicleCard, *, rc_delay: float = 0.0) -> Generator[FirmwareVehicle]:
    """A configured firmware that has just started, and the drone that it controls."""
    firmware = find_firmware()
    with FirmwareProcess(firmware, configured(firmware, settings_of(card))) as process:
        yield FirmwareVehicle(card, process, rc_delay=rc_delay)


def fly_firmware(folder: Path, plan: FlightPlan, out: Path, *, log: Callable[[str], None]) -> dict[str, Any]:
    """A flight through the firmware; files go to ``out``, the summary is returned.

    The firmware waits for the simulation, so the flight takes as long as the machine needs.
    """
    drone, _ = check_card(open_export(folder))
    room_for_flight(out)
    version = find_firmware().version
    log(f"starting Betaflight {version} in a network namespace of its own, arming it on the stand ...")
    with firmware_vehicle(drone) as vehicle:
        metrics = fly_simulated(folder, replace(plan, fast=True), out, log=log, dynamics=vehicle)
    return metrics | {"firmware": f"Betaflight {version}"}
