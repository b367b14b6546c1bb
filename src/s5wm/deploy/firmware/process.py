"""One firmware process: started in a network namespace of its own, run in lockstep, always stopped.

The firmware opens no UDP port, and its serial port listens on the loopback of its namespace, which nothing but the
process itself can reach.  It ends when the link to it closes, so it never outlives this program.
"""

import os
import shutil
import socket
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from jaxtyping import Float

from s5wm.deploy.firmware.build import Firmware
from s5wm.errors import ConfigError, S5wmError

EEPROM = "eeprom.bin"
CHANNELS = 16
ANSWER_SECONDS = 30.0
"""Of real time in which a step has to be answered: a thousand times what it takes."""

NAMESPACES = (("unshare", "--net"), ("unshare", "--user", "--map-root-user", "--net"))
"""For root, and for everybody else."""

LARGEST = 8192
"""Bytes of a message."""


class FirmwareError(S5wmError):
    """The firmware process ended, or does not answer."""


@dataclass(frozen=True, eq=False)
class Sensors:
    """Sensor measurements for the firmware; body frame FLU."""

    omega_b: Float[np.ndarray, " 3"]  # rad/s
    force_b: Float[np.ndarray, " 3"]  # m/s^2, specific force: [0, 0, 9.81] at rest
    quat: Float[np.ndarray, " 4"]  # only for what it shows: rates are controlled, not attitude
    vel_w: Float[np.ndarray, " 3"]
    pos_w: Float[np.ndarray, " 3"]


@dataclass(frozen=True, eq=False)
class Outputs:
    """Motor commands."""

    clock: float  # s since the firmware started
    updates: int  # of the motors in this step
    throttle: Float[
        np.ndarray, " 4"
    ]  # 0 to 1, in Betaflight's order: rear right, front right, rear left, front left


class FirmwareProcess:
    """A running firmware; use it in a ``with`` block."""

    def __init__(self, firmware: Firmware, eeprom: Path | None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="s5wm-betaflight-")
        self.folder = Path(self._folder.name)
        if eeprom is not None:
            shutil.copyfile(eeprom, self.folder / EEPROM)
        self._log: IO[bytes] = (self.folder / "log").open("wb")
        self._time = 0.0
        self._is_running = False
        self.text = ""  # from the serial port, not read yet
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link = ours
        ours.settimeout(ANSWER_SECONDS)
        variables = [f"LD_PRELOAD={firmware.lockstep}", f"S5WM_LINK={theirs.fileno()}"]
        self._process = subprocess.Popen(
            [*_namespace(), "env", *variables, str(firmware.program)],
            cwd=self.folder,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        theirs.close()

    @property
    def pid(self) -> int:
        """Of the firmware."""
        return self._process.pid

    def step(self, sensors: Sensors, channels: Float[np.ndarray, " C"] | None, seconds: float) -> Outputs:
        """Run so long with these measurements and sticks (us; None: no frame came from the receiver).

        Sticks are kept back until the first motor command.  The firmware takes its receiver from the first
        frame, once, and forgets it where that frame comes before the end of its start: it would never arm (RXLOSS).
        """
        self._time += seconds
        state = _state_packet(self._time, sensors)
        kind, sticks = b"S", b""
        if channels is not None and self._is_running:
            sticks = struct.pack("<d16H", self._time, *(round(float(value)) for value in channels))
            kind = b"B"
        self._send(kind + sticks + state)
        while True:
            answer = self._receive()
            if answer[:1] != b"T":
                break
            self.text += answer[1:].decode("ascii", errors="replace")
        clock, updates = struct.unpack_from("<QI", answer, 1)
        self._is_running = self._is_running or updates > 0
        pulses = np.frombuffer(answer, "<f4", count=4, offset=17)
        throttle = np.clip((pulses.astype(np.float64) - 1000.0) / 1000.0, 0.0, 1.0)
        return Outputs(1e-9 * clock, updates, throttle)

    def write(self, text: str) -> None:
        """To the serial port."""
        self._send(b"T" + text.encode("ascii"))

    def wait(self, seconds: float) -> None:
        """Wait for a firmware that exits by itself; raises ``FirmwareError`` if it does not."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise FirmwareError(f"Betaflight still runs after {seconds:g} s; {self._last_words()}") from error

    def close(self) -> None:
        """End it and remove its files; harmless when it has ended."""
        self._link.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> "FirmwareProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, message: bytes) -> None:
        try:
            self._link.send(message)
        except OSError as error:
            raise FirmwareError(f"Betaflight has ended; {self._last_words()}") from error

    def _receive(self) -> bytes:
        try:
            message = self._link.recv(LARGEST)
        except TimeoutError as error:
            raise FirmwareError(f"Betaflight has not answered for {ANSWER_SECONDS:g} s") from error
        except OSError:
            message = b""
        if not message:
            raise FirmwareError(f"Betaflight has ended; {self._last_words()}")
        return message

    def _last_words(self) -> str:
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        return f"its last words: {' / '.join(lines[-3:])}" if lines else "it said nothing"


def _state_packet(time: float, sensors: Sensors) -> bytes:
    """The firmware's ``fdm_packet``: rates FRD, accelerations the negative of the specific force FLU."""
    p, q, r = sensors.omega_b
    return struct.pack(
        "<18d", time, p, -q, -r, *(-sensors.force_b), *sensors.quat, *sensors.vel_w, *sensors.pos_w, 101325.0
    )


def _namespace() -> tuple[str, ...]:
    """The command that starts a program without a network; raises ``ConfigError`` where the system forbids it."""
    if shutil.which("unshare") is None:
        raise ConfigError("Betaflight runs in a network namespace of its own: install util-linux (unshare)")
    for command in NAMESPACES if os.geteuid() == 0 else NAMESPACES[1:]:
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    raise ConfigError(
        "this system allows no network namespace, without which Betaflight would be open to the network: run as root, "
        "or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)"
    )
