"""A checkpoint, and a training, goes from any number of devices to any other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from s5wm.runs.log import read_rows

from .conftest import Command

pytestmark = pytest.mark.faults

SAVE_OR_LOAD = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from s5wm.runs.checkpoint import Checkpoints, restore
what, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
assert len(jax.devices()) == count
mesh = Mesh(np.array(jax.devices()), ("envs",))
def state():
    return {"replay": jnp.arange(2.0**19).reshape(8, -1), "key": jax.random.key(3), "n": jnp.asarray(4)}
checkpoints = Checkpoints(folder, keep=3)
if what == "save":
    split = state() | {"replay": jax.device_put(state()["replay"], NamedSharding(mesh, PartitionSpec("envs")))}
    checkpoints.save(1, split, {"env_steps": 1}, {"w": jnp.ones(2)})
    checkpoints.wait()
else:
    restored, _ = restore(checkpoints.newest(print), jax.eval_shape(state))
    split = jax.device_put(restored["replay"], NamedSharding(mesh, PartitionSpec("envs")))
    assert len(split.sharding.device_set) == count
    np.testing.assert_array_equal(split, state()["replay"])
    assert int(restored["n"]) == 4 and jax.random.key_data(restored["key"]).tolist() == [0, 3]
"""


@pytest.mark.parametrize(("saved_on", "restored_on"), [(1, 4), (4, 1), (4, 2)])
def test_a_checkpoint_moves_between_numbers_of_devices(
    tmp_path: Path, saved_on: int, restored_on: int
) -> None:
    for what, count in (("save", saved_on), ("load", restored_on)):
        own = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}", "JAX_PLATFORMS": "cpu"}
        environment = os.environ | own | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        arguments = [sys.executable, "-c", SAVE_OR_LOAD, what, str(tmp_path / "c"), str(count)]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("before", "after"), [("2", "1"), ("1", "2")])
def test_a_run_goes_on_over_another_number_of_devices(
    command: Command, tmp_path: Path, before: str, after: str
) -> None:
    runs = tmp_path / "alone", tmp_path / "moved"
    several = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    for run, devices in zip(runs, (("1", "1"), (before, after)), strict=True):
        code, said = command.run(*command.train(run, env_steps=64), "--devices", devices[0], **several)
        assert code == 0, said
        code, said = command.run(*command.train(run, env_steps=128), "--devices", devices[1], **several)
        assert code == 0, said
        assert "going on at 64 environment steps" in said
    alone, moved = (read_rows(run / "metrics.jsonl") for run in runs)
    assert [row["env_steps"] for row in alone] == [row["env_steps"] for row in moved] == [64, 128]
    for left, right in zip(alone, moved, strict=True):
        told = [name for name in left if name.startswith(("episode/", "policy/", "loss/"))]
        assert told
        assert [right[name] for name in told] == pytest.approx([left[name] for name in told], abs=1e-5)


@pytest.mark.parametrize(
    ("devices", "says"),
    [
        ("3", "--devices is 3, which does not divide train.num_envs, 4"),
        ("9", "JAX finds 3"),
        ("0", "choose 1 to 3"),
    ],
)
def test_devices_that_cannot_be_are_refused(
    command: Command, tmp_path: Path, devices: str, says: str
) -> None:
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    code, said = command.run(*command.train(tmp_path / "run", env_steps=64), "--devices", devices, **flags)
    assert code == 2 and says in said
    assert not (tmp_path / "run").exists()
