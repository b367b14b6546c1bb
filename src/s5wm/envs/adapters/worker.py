"""A process that steps one environment.  Nothing here, nor what it imports, loads JAX.

It reads commands from a pipe, its action from shared memory, and writes its time step there; it answers with
JSON: nothing, the metrics of an episode that ended, or what went wrong.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from s5wm.envs.adapters.instance import Instance, Make
from s5wm.envs.adapters.layout import Layout

STEP, RESET, END = b"s", b"r", b"e"

HERE = b"h"
"""The first answer: the process has begun, and all that follows is the environment's doing."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals of a scheduler or terminal to all processes; the training handles them and ends its workers."""

LIFELINE = 'trap "" HUP INT TERM USR1; read -r _; kill -KILL 0'
"""What a shell in the worker's process group runs: its input ends with the training, and then it kills the group."""


def serve(
    pipes: tuple[Connection, Connection],
    make: Make,
    layout: Layout,
    memory: Any,
    place: tuple[int, int],
    privileged: tuple[str, ...],
) -> None:
    """Serve environment ``place[0]`` of ``place[1]`` until a command ends it, or the first of the pipes ends.

    The second one ends with the training alone.
    """
    pipe, lifeline = pipes
    _live_apart(pipe, lifeline)
    index, num = place
    arrays = layout.arrays(num, memory)
    row = {name: array[index : index + 1].reshape(array.shape[1:]) for name, array in arrays.items()}
    instance: Instance | None = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send_bytes(HERE)
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


def _live_apart(pipe: Connection, lifeline: Connection) -> None:
    """Put this process and those of its environment into a group that ends together, and with the training."""
    for number in SIGNALS:
        # A handler that does nothing: processes of the environment would inherit SIG_IGN, and outlive its close().
        signal.signal(number, _nothing)
        signal.siginterrupt(number, False)
    os.register_at_fork(after_in_child=_obey)
    os.setsid()
    os.set_inheritable(pipe.fileno(), False)  # it ends with this process
    with suppress(OSError):  # without a shell, processes of the environment outlive a training that is killed
        subprocess.Popen(["/bin/sh", "-c", LIFELINE], stdin=lifeline.fileno())
    lifeline.close()
    _die_with_parent()


def _nothing(*_: object) -> None:
    """Ignore a signal."""


def _obey() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _die_with_parent() -> None:
    """Kill this process when the training ends, also in the middle of a step."""
    if sys.platform != "linux":
        return  # the pipe ends with the training; a step that hangs outlives it
    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
