"""Settings, given to the firmware once over its command line and kept in its memory file."""

import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np

from s5wm.deploy.firmware.build import Firmware, cache_folder
from s5wm.deploy.firmware.process import EEPROM, FirmwareError, FirmwareProcess, Sensors
from s5wm.deploy.firmware.sticks import sticks_at_rest
from s5wm.deploy.runtime.hover import GRAVITY
from s5wm.errors import ConfigError

STEP = 1e-3
"""s between two packets of measurements."""

BOOT = 2.0
"""s after which the command line answers."""

ANSWER_SECONDS = 20.0
OPENINGS = 3
"""Times that the command line is asked to open."""

SETTLING_SECONDS = 1.0

PROMPT = "\r\n# "


def still(quat: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)) -> Sensors:
    """Measurements of a drone that stands on the ground."""
    zero = np.zeros(3)
    return Sensors(zero, np.array([0.0, 0.0, GRAVITY]), np.array(quat), zero, zero)


def configured(firmware: Firmware, settings: tuple[str, ...]) -> Path:
    """The memory file of a firmware with these settings; made where there is none yet."""
    what = "\n".join([firmware.version, str(firmware.program.stat().st_size), *settings])
    file = cache_folder() / f"eeprom-{hashlib.sha256(what.encode()).hexdigest()[:16]}.bin"
    if file.is_file():
        return file
    with FirmwareProcess(firmware, None) as process:
        _configure(process, settings)
        content = (process.folder / EEPROM).read_bytes()
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:  # others may configure it at the same time
        made = Path(folder) / file.name
        made.write_bytes(content)
        made.replace(file)
    return file


def _configure(process: FirmwareProcess, settings: tuple[str, ...]) -> None:
    for _ in range(round(BOOT / STEP)):
        process.step(still(), sticks_at_rest(armed=False), STEP)
    open_command_line(process)
    for line in settings:
        process.write(f"{line}\n")
        answer = _answer(process, line)
        if "ERROR" in answer or "INVALID" in answer.upper():
            raise ConfigError(f"Betaflight does not take the setting {line!r}: {' '.join(answer.split())}")
    process.write("save\n")
    _run_until_it_ends(process)
    process.wait(ANSWER_SECONDS)


def open_command_line(process: FirmwareProcess) -> None:
    """``#`` opens it: alone, for a byte after it would make it data of the other protocol on this port.

    On a busy machine the first one can come before the port listens, and is lost.  Raises ``FirmwareError`` where
    ``OPENINGS`` requests have no answer.
    """
    asked = 0
    while True:
        process.write("#")
        asked += 1
        try:
            _answer(process, "#")
            break
        except FirmwareError:
            if asked == OPENINGS:
                raise
    if asked > 1:
        # An earlier one may have come late, and would turn the first setting into a comment: end its line.
        process.write("\n")
        _run_for(process, SETTLING_SECONDS)
        process.text = ""


def _wait(process: FirmwareProcess) -> None:
    """One step, and real time for the serial port, which does not know of steps."""
    process.step(still(), sticks_at_rest(armed=False), STEP)
    time.sleep(5e-4)


def _run_for(process: FirmwareProcess, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _wait(process)


def _run_until_it_ends(process: FirmwareProcess) -> None:
    """Saving ends this firmware: a real one would restart."""
    try:
        _run_for(process, ANSWER_SECONDS)
    except FirmwareError:
        return
    raise FirmwareError(f"Betaflight has not restarted after save: {process.text[-200:]!r}")


def _answer(process: FirmwareProcess, line: str) -> str:
    """What the command line says up to its next prompt."""
    end = time.monotonic() + ANSWER_SECONDS
    while PROMPT not in process.text:
        _wait(process)
        if time.monotonic() > end:
            raise FirmwareError(
                f"Betaflight's command line has not answered {line!r}: {process.text[-200:]!r}"
            )
    answer, _, process.text = process.text.partition(PROMPT)
    return answer
