"""Copies of an environment that raise, die, hang and lie during a training."""

import functools as ft
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from s5wm.agents.ppo.agent import PPOConfig
from s5wm.envs.adapters.gymnasium import Hosting, host_env
from s5wm.envs.adapters.makers import call_factory
from s5wm.envs.adapters.tasks import FactoryConfig
from s5wm.errors import EnvironmentFailedError
from s5wm.experiments.experiment import Experiment
from s5wm.experiments.run import How, run_experiment
from s5wm.runs.checkpoint import Checkpoints
from s5wm.runs.directory import RunDirectory
from s5wm.training.config import TrainConfig
from s5wm.training.hosted import HostedChunk
from s5wm.training.state import NEVER, init_train

from .fragile import Fragile, is_alive, order, workers

AGENT = PPOConfig(units=4, layers=1, epochs=1, minibatches=2)
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def experiment(folder: Path, *, env_steps: int, **hosting) -> Experiment:
    train = TrainConfig(
        num_envs=4, rollout_length=8, iterations_per_chunk=2, env_steps=env_steps, eval_every=10**6,
        eval_episodes=1, checkpoint_every=64,
    )  # fmt: skip
    task = FactoryConfig(factory="fragile:Fragile", args=(f"folder={folder}",), eval_steps=10, **hosting)
    return Experiment(task=task, agent=AGENT, train=train)


def all_dead(pids: list[int], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.1)
    return not any(map(is_alive, pids))


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.faults)])
def test_a_training_outlives_its_failures(tmp_path: Path, rounds: int) -> None:
    orders = tmp_path / "orders"
    orders.mkdir()
    told_to = (["kill"] * 4 + ["hang", "raise"]) * rounds
    order(orders, *told_to)
    steps = 192 * rounds + 64
    told = experiment(orders, env_steps=steps, processes=True, timeout=3.0, failures=100)
    assert run_experiment(told, tmp_path / "run")
    assert not list(orders.glob("order-*")), "every order was obeyed"
    assert len(workers(orders)) >= 4 + len(told_to)
    assert all_dead(workers(orders))
    directory = RunDirectory(tmp_path / "run")
    rows = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    assert [row["env_steps"] for row in rows] == list(range(64, steps + 1, 64))
    assert rows[-1]["health/skipped"] == 0
    newest = Checkpoints(directory.checkpoints, keep=3).newest(print)
    assert newest is not None and int(newest.name) == steps


def chunk_of(folder: Path, hosting: Hosting = Hosting(), num_envs: int = 2, length: int = 8):  # noqa: B008
    env = host_env(lambda: Fragile(str(folder)), hosting)
    agent = AGENT.build(env.spec, num_envs=num_envs)
    chunk = HostedChunk(env, agent, num_envs=num_envs, length=length, seed=0)
    return chunk, init_train(env, agent, num_envs, 0)


def test_the_row_before_a_failure_is_the_last_of_its_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk, state = chunk_of(tmp_path)
    seen, collect = [], chunk._collect
    told: list[str] = []
    chunk.tell = told.append
    monkeypatch.setattr(chunk, "_collect", lambda *a: seen.append(collect(*a)) or seen[-1])
    order(tmp_path, "raise")  # copy 0, at its second step
    ((state, _, sums),) = chunk([state], 1)
    rows = jax.device_get(seen[0][1]).timestep
    assert rows.obs[:, :, 0].tolist() == [[0, 1, 0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6, 0]]
    assert rows.is_last.argmax(1).tolist() == [1, 6] and rows.is_last.sum(1).tolist() == [1, 1]
    assert rows.is_terminal.argmax(1).tolist() == [0, 6] and rows.is_terminal[0].sum() == 0
    assert np.flatnonzero(rows.is_first[0]).tolist() == [0, 2]
    assert rows.reward.nominal[0, 2] == 0.0
    # The one that ends within the rollout and the one that ends with the row after it: none was cut by a failure.
    assert int(sums.count) == 2 and float(sums.metrics["length"]) == 2 * 6
    assert state.actor.length.tolist() == [6, 1]
    (news,) = told
    assert news == "environment 0 failed (RuntimeError: the simulator broke); it is made anew"
    chunk.close()


def test_processes_give_the_rows_that_copies_in_this_process_give(tmp_path: Path) -> None:
    """The law of pools; one that dies or hangs in a process gives what one that raises here gives."""
    taken = {}
    for processes, broken in ((False, ("raise", "raise")), (True, ("kill", "hang"))):
        folder = tmp_path / str(processes)
        folder.mkdir()
        make = ft.partial(call_factory, "fragile:Fragile", (f"folder={folder}",))
        envs = host_env(make, Hosting(processes=processes, timeout=5.0)).open(1)
        rows, rng = [envs.reset(3)], np.random.default_rng(0)
        told: list[str] = []
        envs.tell = told.append
        for t in range(14):
            order(folder, *{3: broken[:1], 9: broken[1:]}.get(t, ()))
            rows.append(envs.step(rng.integers(0, 2, 1)))
        assert len(told) == 2
        envs.close()
        assert all_dead(workers(folder))
        taken[processes] = rows
    for here, apart in zip(taken[False], taken[True], strict=True):
        for name in ("obs", "reward", "is_first", "is_last", "is_terminal", "cut"):
            np.testing.assert_array_equal(getattr(here, name), getattr(apart, name))
    assert sum(row.cut.sum() for row in taken[True]) == 2


def test_environments_that_fail_too_often_end_the_training_and_lose_nothing(tmp_path: Path) -> None:
    orders = tmp_path / "orders"
    orders.mkdir()
    told = experiment(orders, env_steps=1024, failures=2)
    run = tmp_path / "run"

    def breaks(path: Path) -> None:
        del path
        order(orders, "raise", "shape", "raise")

    told = replace(told, train=replace(told.train, eval_every=128))
    with pytest.raises(EnvironmentFailedError, match=r"3 times within 10 minutes.*task.failures") as raised:
        run_experiment(told, run, How(on_evaluation=breaks))
    assert "the simulator broke" in raised.value.failure_reason
    directory = RunDirectory(run)
    assert "RuntimeError: the simulator broke" in directory.failure.read_text()
    newest = Checkpoints(directory.checkpoints, keep=3).newest(print)
    assert newest is not None and int(newest.name) >= 128
    for path in orders.glob("order-*"):
        path.unlink()
    assert run_experiment(told, run), "it goes on where it was"


def test_a_shape_that_is_not_the_space_s_is_named(tmp_path: Path) -> None:
    order(tmp_path, *["shape"] * 4)
    chunk, state = chunk_of(tmp_path, Hosting(failures=2))
    with pytest.raises(EnvironmentFailedError, match=r"an observation has shape \(3,\), its space \(2,\)"):
        chunk([state], 1)
    chunk.close()


def test_an_observation_that_is_not_finite_is_a_failure_of_its_environment(tmp_path: Path) -> None:
    order(tmp_path, "nan")
    chunk, state = chunk_of(tmp_path)
    told: list[str] = []
    chunk.tell = told.append
    ((_, _, sums),) = chunk([state], 1)
    assert int(sums.faults.observation) == NEVER
    assert told == ["environment 0 failed (its observation was not finite); it is made anew"]
    chunk.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers that hang die with the training on Linux alone")
def test_a_signal_before_the_first_update_ends_all_in_the_middle_of_a_step(tmp_path: Path) -> None:
    order(tmp_path, "hang")
    command = [
        sys.executable, "-m", "s5wm", "train", "fragile:Fragile", "--agent", "ppo", "--env-arg", f"folder={tmp_path}",
        "--run", str(tmp_path / "run"), "--override", "task.processes=true", "--override", "train.num_envs=2",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as training:
        try:
            until = time.monotonic() + 300
            while not list(tmp_path.glob("hangs-*")) and time.monotonic() < until:
                assert training.poll() is None, training.stderr.read()
                time.sleep(0.2)
            assert list(tmp_path.glob("hangs-*"))
            begun = [pid for pid in workers(tmp_path) if is_alive(pid)]
            assert len(begun) >= 2
            training.send_signal(signal.SIGINT)
            assert training.wait(30) == 128 + signal.SIGINT
        finally:
            training.kill()
    assert all_dead(begun)
