"""Divided over devices == on one: the same numbers, and every device does its part."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import ROUGHLY

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "devices"),
    [
        ("ppo", 2),  # the others compile for minutes
        pytest.param("s5wm", 2, marks=pytest.mark.faults),
        pytest.param("dreamerv3", 4, marks=pytest.mark.faults),
        pytest.param("s5wm", 4, marks=pytest.mark.faults),
    ],
)
def test_several_devices_train_as_one_does(agent: str, devices: int) -> None:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{ROUGHLY} --xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.laws.on_devices", agent, str(devices)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] < 1e-5 and found["metrics"] < 1e-5
    assert found["envs"] == 1 / devices
    assert (
        found["flops"] < 0.3 + 0.7 / devices
    )  # of one device; drawing a batch and the optimiser are everyone's
