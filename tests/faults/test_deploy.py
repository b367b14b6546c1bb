"""An exported policy in trouble: inputs of every size, stopped and killed processes, missing packages (make faults)."""

import json
import os
import signal
import socket
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


OFFBOARD, POSITION = 6 << 16, 3 << 16


class Still:
    """A vehicle behind MAVLink that hovers at the start, whatever is commanded; it hears commands."""

    def __init__(self, track):
        self.common = pytest.importorskip("pymavlink.dialects.v20.common")
        self.link = self.common.MAVLink(None, srcSystem=1, srcComponent=1)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.setblocking(False)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.pos = [float(sign * each) for sign, each in zip((1, -1, -1), track.start_pos, strict=True)]

    def _say(self, message):
        self.udp.sendto(message.pack(self.link), ("127.0.0.1", self.port))

    def be(self, mode, seconds, until=lambda: False):
        """Stay in a mode; the commands that came meanwhile."""
        end, heard = time.monotonic() + seconds, []
        while time.monotonic() < end and not until():
            stamp = int(1e6 * time.monotonic())
            fields = [stamp, 1, 12, *self.pos, [1.0, 0.0, 0.0, 0.0], *[0.0] * 6, [0.0] * 21, [0.0] * 21]
            self._say(self.common.MAVLink_odometry_message(*fields))
            self._say(self.common.MAVLink_heartbeat_message(2, 12, 128, mode, 4, 3))
            time.sleep(0.01)
            try:
                while True:
                    heard += self.link.parse_buffer(bytearray(self.udp.recv(2048))) or []
            except BlockingIOError:
                pass
        return [message for message in heard if message.get_type() == "SET_ATTITUDE_TARGET"]


def test_a_live_flight_that_is_interrupted_hovers_until_somebody_takes_it(exported, tmp_path):
    vehicle = Still(exported.card.track)
    address = f"127.0.0.1:{vehicle.port}"
    live = (
        "--target",
        "mavlink",
        "--live",
        "--hover-throttle",
        "0.2",
        "--address",
        address,
        "--seconds",
        "60",
    )
    process = start(exported, tmp_path, *live)
    said = iter(process.stderr)
    assert any("SENDING COMMANDS" in line for line in said)
    vehicle.be(POSITION, 1.0)
    assert vehicle.be(OFFBOARD, 1.0)
    process.send_signal(signal.SIGTERM)
    vehicle.be(OFFBOARD, 1.0)  # until it has heard of it
    hover = vehicle.be(OFFBOARD, 2.0)
    assert process.poll() is None
    assert len(hover) > 10
    for message in hover:
        rates = (message.body_roll_rate, message.body_pitch_rate, message.body_yaw_rate)
        assert (message.thrust, *rates) == pytest.approx((0.2, 0.0, 0.0, 0.0), abs=1e-3)
    vehicle.be(POSITION, 30.0, until=lambda: process.poll() is not None)
    assert process.wait(timeout=10) == 128 + signal.SIGTERM
    assert f"records: {tmp_path}" in "".join(said)
    metrics = json.loads(process.stdout.read())
    assert metrics["ending"] == "SIGTERM"
    assert metrics["modes"]["hover"] > 10
    process.stdout.close()
    process.stderr.close()
    vehicle.udp.close()


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
