"""A training too large for what a scheduler allows is refused, and not killed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Command

pytestmark = pytest.mark.faults

LIMIT = 12 * 10**9
"""Bytes of addresses: JAX alone asks for gigabytes of them."""


def test_beyond_the_limit_of_addresses_is_refused_with_its_size(command: Command, tmp_path: Path) -> None:
    train = ["train", "race/split-s", "--run", "run", "--override", "agent.replay.capacity=81920"]
    line = f"ulimit -v {LIMIT // 1024}; exec {shlex.join([sys.executable, '-m', 's5wm', *train])}"
    done = subprocess.run(
        ["bash", "-c", line], env=command.environment, cwd=command.folder, capture_output=True, check=False
    )
    said = done.stderr.decode()
    assert done.returncode == 2, said
    told = re.search(r"takes (\S+) GB, .*, and (\S+) GB are free; lower agent.replay.capacity", said)
    assert told is not None, said
    assert float(told[1]) > 6.0 and float(told[2]) < LIMIT / 1e9
    assert not (tmp_path / "run").exists()
