"""Gymnasium's asynchronous vector environments fork: they work, or say at once what to do instead."""

import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("gymnasium")

MAKE = """
import warnings
warnings.simplefilter("ignore")
import gymnasium
import s5wm
envs = gymnasium.make_vec("s5wm/Hover-v0", 2, vectorization_mode="async"{how})
"""

AFTER_USE = """
import jax
jax.devices()
"""

FLY = """
if __name__ == "__main__":
    obs, _ = envs.reset(seed=0)
    obs, *_ = envs.step(envs.action_space.sample())
    print(obs.shape)
    envs.close()
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.slow
def test_workers_of_a_process_that_has_not_used_jax_fly() -> None:
    done = python(MAKE.format(how="") + FLY)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(2, 15)\n"


def test_a_worker_that_would_hang_says_what_to_do() -> None:
    code = AFTER_USE + MAKE.format(how="") + "import time\nbegun = time.monotonic()\n"
    code += "try:\n    envs.reset(seed=0)\nexcept RuntimeError as error:\n    print(error)\n"
    code += "print(time.monotonic() - begun < 30)\n"
    begun = time.monotonic()
    done = python(code)
    assert time.monotonic() - begun < 600
    words, quick = done.stdout.splitlines()
    assert 'context="spawn"' in words and "JAX had been used" in words
    assert quick == "True"


def test_shapes_are_known_before_any_device_wakes() -> None:
    code = """
import jax, s5wm, gymnasium
from jax._src import xla_bridge
for name in ("SplitS", "Figure8State", "Hover"):
    env = gymnasium.make(f"s5wm/{name}-v0")
    print(env.observation_space.shape, xla_bridge.backends_are_initialized())
"""
    done = python(code)
    assert done.stdout == "(24,) False\n(24,) False\n(15,) False\n", done.stderr
