"""A process that steps one environment.  Nothing here, nor what it imports, loads JAX.

It reads commands from a pipe, its action from shared memory, and writes its time step there; it answers with
JSON: nothing, the metrics of an episode that ended, or what went wrong.
"""

import ctypes
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from s5wm.envs.adapters.instance import Instance, Make
from s5wm.envs.adapters.layout import Layout

STEP, RESET, END = b"s", b"r", b"e"

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals of a scheduler or terminal to all processes; the training handles them and ends its workers."""


def serve(
    pipe: Connection,
    make: Make,
    layout: Layout,
    memory: Any,
    place: tuple[int, int],
    privileged: tuple[str, ...],
) -> None:
    """Serve environment ``place[0]`` of ``place[1]`` until a command ends it, or the pipe ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    index, num = place
    arrays = layout.arrays(num, memory)
    row = {name: array[index : index + 1].reshape(array.shape[1:]) for name, array in arrays.items()}
    instance: Instance | None = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            instance = Instance(make, row, privileged)
        except (Exception, SystemExit):  # noqa: BLE001 - the answer says what it raised
            pipe.send_bytes(_failure())
            return
        pipe.send_bytes(b"")
        _loop(pipe, instance)
    if instance is not None:
        instance.close()


def _loop(pipe: Connection, instance: Instance) -> None:
    while (word := pipe.recv_bytes())[:1] != END:
        try:
            metrics = instance.step() if word[:1] == STEP else instance.reset(int(word[1:]))
            answer = json.dumps({"metrics": metrics}).encode() if metrics else b""
        except (Exception, SystemExit):  # noqa: BLE001 - the answer says what it raised
            answer = _failure()
        pipe.send_bytes(answer)


def _failure() -> bytes:
    return json.dumps({"failure": traceback.format_exc()}).encode()


def _die_with_parent() -> None:
    """Kill this process when the training ends, also in the middle of a step."""
    if sys.platform != "linux":
        return  # the pipe ends with the training; a step that hangs outlives it
    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
