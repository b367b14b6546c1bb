"""TensorBoard's events: what interruptions and roll-backs repeat is drawn once, and a failure holds up nothing."""

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event

from s5wm.runs.log import TensorBoard


def events(file: Path) -> list[Any]:
    """All of a file; each comes as its size, a checksum, itself, a checksum."""
    content, found = file.read_bytes(), []
    while content:
        (size,) = struct.unpack("Q", content[:8])
        found.append(Event.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    return found


def told(folder: Path) -> list[list[Any]]:
    """Of each file, in the order of TensorBoard: points (step and values by name), and the steps of new beginnings."""
    files = [events(file) for file in sorted(folder.iterdir())]
    assert all(file[0].file_version == "brain.Event:2" for file in files)
    return [
        [
            ("START", event.step)
            if event.HasField("session_log")
            else (event.step, {value.tag: value.simple_value for value in event.summary.value})
            for event in file[1:]
        ]
        for file in files
    ]


def written(folder: Path, steps: list[int], *, env_steps: int) -> None:
    sink = TensorBoard(folder, env_steps=env_steps)
    for step in steps:
        sink.write_row({"env_steps": step, "loss/x": 0.5, "eval/lap_time": float("nan")})
    sink.close()


def test_points_that_come_again_hide_those_of_before(tmp_path: Path) -> None:
    written(tmp_path, [64, 128, 192], env_steps=0)
    written(tmp_path, [64, 128], env_steps=0)  # killed before its first checkpoint
    written(tmp_path, [192, 256, 192, 256], env_steps=128)  # and rolled back once

    def point(step: int) -> tuple[int, dict[str, float]]:
        return step, {"env_steps": float(step), "loss/x": 0.5}

    assert told(tmp_path) == [
        [point(64), point(128), point(192)],
        [("START", 1), point(64), point(128)],
        [("START", 129), point(192), point(256), ("START", 192), point(192), point(256)],
    ]


QUOTA = """
import resource, sys
from pathlib import Path
from s5wm.runs.log import TensorBoard
sink = TensorBoard(Path(sys.argv[1]), env_steps=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for step in range(1, 500):
    sink.write_row({"env_steps": step, **{f"loss/{index}": 1.0 for index in range(30)}})
sink.close()
"""


def test_a_file_that_takes_no_more_is_told_of_once_and_holds_nothing_up(tmp_path: Path) -> None:
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", QUOTA, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "TensorBoard gets no more rows (File too large); metrics.jsonl has them all\n"
