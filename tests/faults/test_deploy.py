"""An exported policy in trouble: inputs of every size, stopped and killed processes, missing packages (make faults)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.deploy.describe import act_along
from s5wm.deploy.export import export
from s5wm.deploy.golden import Golden
from s5wm.deploy.parity import compare, random_observations
from s5wm.deploy.runtime.engines import CEngine, OnnxEngine, find_compiler
from s5wm.experiments.trained import load_agent

pytestmark = pytest.mark.faults

FLY = [sys.executable, "-m", "s5wm", "fly"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    if find_compiler() is None:
        pytest.skip("no C compiler")
    return export("pretrained/split-s", tmp_path_factory.mktemp("export"), which="best", log=lambda _: None)


def engines(folder):
    return {"onnx": OnnxEngine(folder / "policy.onnx"), "c": CEngine(folder)}


def test_ten_thousand_observations_each_from_an_empty_memory(exported):
    agent = load_agent("pretrained/split-s", which="best", warn=lambda _: None)
    golden = Golden.load(exported.folder / "golden.npz")
    (obs,) = random_observations(golden, 10_000, seed=7)
    every = np.ones(len(obs), bool)

    def act(each):
        return agent.policy(agent.policy.initial(), each, jnp.ones((), bool), key=None)[1]

    action = np.clip(np.asarray(jax.jit(jax.vmap(act))(obs)), -1.0, 1.0)
    for engine in engines(exported.folder).values():
        errors = compare(engine, golden, Golden((obs,), every, action))
        assert errors.flown < 1e-5
        assert errors.random < 1e-5


def test_five_hundred_steps_do_not_drift(exported):
    agent = load_agent("pretrained/split-s", which="best", warn=lambda _: None)
    golden = Golden.load(exported.folder / "golden.npz").first(500)
    first = np.arange(500) == 0
    action = act_along(agent, golden.inputs, first)
    for engine in engines(exported.folder).values():
        engine.reset()
        error = np.array([np.abs(engine.step(o) - a).max() for o, a in zip(golden.obs, action, strict=True)])
        assert error.max() < 1e-5
        assert error[-100:].mean() < 3.0 * error[:100].mean() + 1e-6


def start(exported, out, *more):
    command = [*FLY, str(exported.folder), "--engine", "c", "--out", str(out), "--json", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_flight(process):
    """Until it says that it flies."""
    for line in process.stderr:
        if "flying" in line:
            time.sleep(1.0)
            return
    raise AssertionError("it never flew")


def test_a_stopped_process_counts_what_it_slept_through(exported, tmp_path):
    process = start(exported, tmp_path, "--seconds", "6", "--dry-run")
    wait_for_flight(process)
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.0)
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=60)
    metrics = json.loads(output)
    assert metrics["periods_skipped"] >= 90
    assert metrics["periods"] + metrics["periods_skipped"] <= 300
    with np.load(tmp_path / "periods.npz") as periods:
        assert (np.diff(periods["time"]) > 0).all()
        assert periods["latency"].min() >= 0.0
        assert periods["wake"].min() >= 0.0


def listening(pid):
    """Inodes of listening TCP sockets and of UDP sockets that a process has open."""
    own = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    found = []
    for name, states in (("tcp", {"0A"}), ("tcp6", {"0A"}), ("udp", {"07"}), ("udp6", {"07"})):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] in states and f"socket:[{fields[9]}]" in own:
                found.append(f"{name} {fields[1]}")
    return found


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_it_listens_nowhere_and_leaves_no_process_behind(exported, tmp_path):
    process = start(exported, tmp_path, "--seconds", "30", "--dry-run")
    wait_for_flight(process)
    assert listening(process.pid) == []
    assert children(process.pid) == []  # the compiler is gone
    process.terminate()
    assert process.wait(timeout=10) != 0
    process.stdout.close()
    process.stderr.close()


def test_a_missing_package_is_named(exported, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('No module named onnxruntime')")
    environ = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [*FLY, str(exported.folder), "--fast"], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install 's5wm[deploy]', or use --engine c" in done.stderr


def test_a_changed_file_is_refused(exported, tmp_path):
    for file in exported.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    code = bytearray((tmp_path / "policy.onnx").read_bytes())
    code[len(code) // 2] ^= 1
    (tmp_path / "policy.onnx").write_bytes(bytes(code))
    done = subprocess.run([*FLY, str(tmp_path), "--fast"], capture_output=True, text=True, check=False)
    assert done.returncode == 65
    assert "has changed since it was written" in done.stderr
