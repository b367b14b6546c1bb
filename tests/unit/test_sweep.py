"""A sweep: its grid, its processes on their cores, going on after an interruption, and the script for a cluster."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest

from s5wm.cli import main
from s5wm.cli.sweep import Sweep
from s5wm.errors import ConfigError, WriteError
from s5wm.experiments import sweep
from s5wm.experiments.sweep import (
    Job,
    Record,
    grid,
    jobs_of,
    run_jobs,
    shares,
    slurm_script,
    split_values,
)
from s5wm.runs.files import write_json

WAIT = """
import os, pathlib, signal, sys, time
run = pathlib.Path(sys.argv[1]); run.mkdir(exist_ok=True)
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
(run / "cores").write_text(repr(sorted(os.sched_getaffinity(0))))
with (run / "times").open("a") as file: file.write("begun ")
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end and not told: time.sleep(0.02)
with (run / "times").open("a") as file: file.write("ended ")
sys.exit(75 if told else int(sys.argv[3]))
"""


class Waiting(Job):
    """A process that stands for a training: it notes its cores, waits, and ends with a code."""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", WAIT, str(self.run), *self.arguments]


def waiting(out: Path, name: str, seconds: float = 0.0, code: int = 0) -> Job:
    return Waiting(name=name, run=out / name, arguments=(str(seconds), str(code)))


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_a_grid_is_the_product_of_its_axes_and_seeds() -> None:
    cells = grid(["a.x=1,2", "b=[1,2],[3]"], [0, 1])
    assert len(cells) == 8
    assert cells[0] == (("a.x=1", "b=[1,2]"), 0) and cells[-1] == (("a.x=2", "b=[3]"), 1)
    assert grid([], [4]) == [((), 4)]
    assert split_values('"a,b",c') == ['"a,b"', "c"]
    for wrong in ("a", "=1", "a="):
        with pytest.raises(ConfigError, match="PATH=V1,V2"):
            grid([wrong], [0])


def test_every_training_has_a_directory_and_a_command_of_its_own(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, ["hover"], grid(["agent.units=8,16"], [0, 1]))
    assert [job.name for job in jobs] == ["units=8_s0", "units=8_s1", "units=16_s0", "units=16_s1"]
    assert jobs[0].arguments == (
        *("train", "hover", "--override", "agent.units=8", "--seed", "0"),
        *("--run", str(tmp_path / "units=8_s0")),
    )
    with pytest.raises(ConfigError, match="twice"):
        jobs_of(tmp_path, [], grid(["agent.units=8,8"], [0]))


def test_cores_are_shared_out() -> None:
    assert shares([0, 1, 2, 3], 2) == [[0, 2], [1, 3]]
    assert shares([5], 3) == [[5], [5], [5]]


def test_so_many_at_once_each_on_its_cores_and_finished_ones_are_left_out(tmp_path: Path) -> None:
    own = sorted(os.sched_getaffinity(0))
    jobs = [waiting(tmp_path, "a", 0.5), waiting(tmp_path, "b", code=3), waiting(tmp_path, "c")]
    said: list[str] = []
    assert run_jobs(jobs, tmp_path, at_once=2, log=said.append) == {"a": 0, "b": 3, "c": 0}
    assert any("b: exit code 3, see" in line for line in said)
    cores = [json.loads((job.run / "cores").read_text()) for job in jobs]
    assert cores[0] == shares(own, 2)[0] and cores[1] == shares(own, 2)[1]

    said.clear()
    again = [jobs[0], waiting(tmp_path, "b"), waiting(tmp_path, "c", code=1)]  # c is asked for otherwise
    assert run_jobs(again, tmp_path, at_once=1, log=said.append) == {"a": 0, "b": 0, "c": 1}
    assert "a: finished before" in said
    assert [(job.run / "times").read_text().count("begun") for job in jobs] == [1, 2, 2]
    shutil.rmtree(jobs[0].run)  # to train it again
    assert run_jobs(jobs[:1], tmp_path, at_once=1, log=said.append) == {"a": 0}
    assert (jobs[0].run / "times").is_file()


def test_a_record_that_cannot_be_written_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = True

    def written(path: Path, data: object) -> None:
        if is_full:
            raise WriteError(f"cannot write {path}: No space left on device")
        write_json(path, data)

    monkeypatch.setattr(sweep, "write_json", written)
    jobs = [waiting(tmp_path, "a"), waiting(tmp_path, "b", 0.8)]
    said: list[str] = []
    with pytest.raises(WriteError, match="No space left"):
        run_jobs(jobs, tmp_path, at_once=2, log=said.append)
    assert (tmp_path / "b" / "times").read_text() == "begun ended "
    assert "b: finished" in said and sum("the trainings go on" in line for line in said) == 2

    def freed(line: str) -> None:
        nonlocal is_full
        is_full &= "b: finished" not in line

    said.clear()
    assert run_jobs(jobs, tmp_path, at_once=2, log=freed) == {"a": 0, "b": 0}
    assert all(Record(tmp_path).has_finished(job) for job in jobs)


class Deaf(Job):
    """A process without a handler, as a training that starts or evaluates, which has its sweep stopped."""

    @property
    def command(self) -> list[str]:
        told = "import os, pathlib, signal, sys, time; pathlib.Path(sys.argv[1]).mkdir()"
        return [
            sys.executable,
            "-c",
            f"{told}; os.kill({os.getpid()}, signal.SIGTERM); time.sleep(60)",
            str(self.run),
        ]


def test_a_training_that_a_stopped_sweep_ends_before_it_can_save_is_stopped(tmp_path: Path) -> None:
    jobs = [Deaf(name=name, run=tmp_path / name, arguments=()) for name in ("a", "b")]
    said: list[str] = []
    assert run_jobs(jobs, tmp_path, at_once=1, log=said.append) == {"a": 75}
    assert "a: stopped" in said and not jobs[1].run.exists()
    assert not Record(tmp_path).has_finished(jobs[0])


def test_a_training_that_somebody_else_ends_has_failed(tmp_path: Path) -> None:
    kills = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    job = Job(name="a", run=tmp_path / "a", arguments=())
    with patch.object(Job, "command", [sys.executable, "-c", kills]):
        assert run_jobs([job], tmp_path, at_once=1, log=lambda _: None) == {"a": -signal.SIGTERM}


SIGNALLED = """
import sys
from pathlib import Path
from tests_sweep import waiting
from s5wm.experiments.sweep import run_jobs
out = Path(sys.argv[1])
print(run_jobs([waiting(out, "a", 60), waiting(out, "b", 60)], out, at_once=1, log=lambda text: None))
"""


@pytest.mark.slow
def test_a_signal_stops_what_runs_and_begins_no_more(tmp_path: Path) -> None:
    (tmp_path / "tests_sweep.py").write_text(Path(__file__).read_text())
    path = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    command = [sys.executable, "-c", SIGNALLED, str(tmp_path / "out")]
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "a" / "times").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert out.strip() == "{'a': 75}"
    assert not (tmp_path / "out" / "b").exists()
    assert (tmp_path / "out" / "a" / "times").read_text() == "begun ended "


def test_the_script_of_a_cluster_is_bash_and_runs_each_command(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, ["hover"], grid(['task.quad.name="x y"'], [0, 1]))
    script = slurm_script(jobs, tmp_path, at_once=4, hours=3)
    assert "#SBATCH --array=0-1%4" in script and "--time=3:00:00" in script
    file, fake = tmp_path / "sweep.sh", tmp_path / "s5wm"
    file.write_text(script)
    fake.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(["bash", str(file)], env=environment, capture_output=True, text=True, check=True)
    assert tuple(done.stdout.splitlines()) == jobs[1].arguments


def test_the_verb_checks_every_training_first_and_prints_the_script(tmp_path: Path, capsys) -> None:
    common = ["sweep", "toy/double-integrator", "--agent", "ppo", "--out", str(tmp_path / "out")]
    assert call(*common, "--grid", "agent.units=4,-1") == 2
    assert "ppo.units is -1" in capsys.readouterr().err
    assert call(*common, "--jobs", "0") == 2
    assert not (tmp_path / "out").exists()
    for more in ((), ("--slurm",)):
        assert call(*common[:-1], "/proc/nowhere/x", *more) == 73
        assert "/proc/nowhere/x cannot be made" in capsys.readouterr().err
    assert call(*common, "--grid", "agent.units=4,8", "--seeds", "2", "--env-steps", "64", "--slurm") == 0
    script = capsys.readouterr().out
    assert "--array=0-3%1" in script and script.count("--env-steps 64") == 4
    assert (tmp_path / "out").is_dir(), "SLURM writes its log there, and makes no folder"
    file = tmp_path / "named.yaml"
    file.write_text("task: toy/double-integrator\nagent: ppo\nseed: 3\n")
    options = ["--config", str(file), "--out", str(tmp_path / "out"), "--slurm"]
    assert call("sweep", *options) == 0
    assert "--seed 3" in capsys.readouterr().out
    assert call("sweep", *options, "--seed", "5") == 0
    assert "--seed 5" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["terminal", "pipe"])
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["table", "json"])
def test_a_stopped_sweep_whose_output_has_no_reader_exits_as_its_trainings_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, more: tuple[str, ...]
) -> None:
    reader, writer = pty.openpty() if output == "terminal" else os.pipe()
    os.close(reader)
    monkeypatch.setattr("s5wm.cli.sweep.run_jobs", lambda jobs, *_, **__: {jobs[0].name: 75})
    common = ["sweep", "toy/double-integrator", "--agent", "ppo", "--out", str(tmp_path), "--seeds", "2"]
    with os.fdopen(writer, "w", buffering=1 if output == "terminal" else -1) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert call(*common, *more) == 75


def test_values_that_are_valid_only_in_the_grid_are_trained(tmp_path: Path, capsys) -> None:
    given = ["--override", "agent.replay.capacity=5000", "--grid", "train.rollout_length=10,20"]
    assert call("sweep", "hover", *given, "--out", str(tmp_path), "--slurm") == 0
    assert "--array=0-1%1" in capsys.readouterr().out


def test_a_finished_training_is_not_left_out_when_its_file_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "named.yaml"

    def job_with(units: int) -> Job:
        file.write_text(f"task: toy/double-integrator\nagent: ppo\noverride: {{agent.units: {units}}}\n")
        (job,) = Sweep(config=file, out=tmp_path)._jobs()
        return job

    before, after = job_with(4), job_with(64)
    assert before.arguments == after.arguments
    before.run.mkdir()
    Record(tmp_path).note(before, 0, pytest.fail)
    record = Record(tmp_path)
    assert record.has_finished(before) and record.has_finished(job_with(4))
    assert not record.has_finished(after)
    del record.ended[before.name]["experiment"]  # as in records of before
    assert record.has_finished(after)


@pytest.mark.slow
def test_a_real_training(tmp_path: Path, capsys) -> None:
    tiny = [
        "train.num_envs=4",
        "train.rollout_length=8",
        "train.iterations_per_chunk=2",
        "train.eval_episodes=2",
    ]
    tiny += ["task.steps=10", "agent.layers=1", "agent.epochs=1", "agent.minibatches=2"]
    common = ["sweep", "toy/double-integrator", "--agent", "ppo", "--env-steps", "64", "--out", str(tmp_path)]
    common += [word for change in tiny for word in ("--override", change)]
    assert call(*common, "--grid", "agent.units=4", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [(row["name"], row["code"]) for row in rows] == [("units=4_s0", 0)]
    assert all(isinstance(row["success_rate"], float) for row in rows)
    assert call(*common, "--grid", "agent.units=4") == 0
    assert capsys.readouterr().err.count("finished before") == 1
