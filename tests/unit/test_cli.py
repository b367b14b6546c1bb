import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tyro

import s5wm
from s5wm.cli import VERBS, main
from s5wm.cli.diagnosis import _listed
from s5wm.cli.pictures import _by_horizon
from s5wm.diagnostics.health import OPTIONAL
from s5wm.errors import CorruptError, RunDirectoryError
from s5wm.experiments import run as running
from s5wm.experiments.experiment import load_experiment
from s5wm.experiments.trained import load_agent
from s5wm.runs.directory import RunDirectory, lives
from s5wm.runs.log import read_rows
from s5wm.runs.panel import Panel
from s5wm.viewer.subject import load_subject

TINY = [
    *("train.num_envs=4", "train.rollout_length=8", "train.iterations_per_chunk=2", "train.eval_every=128"),
    *("train.eval_episodes=2", "train.checkpoint_every=64", "task.steps=10"),
    *("agent.units=4", "agent.layers=1", "agent.epochs=1", "agent.minibatches=2"),
]


def options(overrides: list[str]) -> list[str]:
    return [word for item in overrides for word in ("--override", item)]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    s5wm.train("toy/double-integrator", agent="ppo", run=path, env_steps=192, overrides=TINY)
    return path


def test_a_run_holds_what_the_contract_says(run: Path) -> None:
    names = {p.name for p in run.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "best", "eval.json", "tensorboard"} <= names
    config = json.loads((run / "config.json").read_text())
    assert (config["schema"], config["task"], config["agent"]) == (2, "toy/double-integrator", "ppo")
    needed = {"env_steps", "updates", "minutes", "env_steps_per_s", "updates_per_s", "loss/policy"}
    rows = s5wm.Run(run).metrics
    assert all(needed <= row.keys() for row in rows)
    assert {"eval/success", "eval/return_nominal"} <= rows[-1].keys()


def test_eval_reports_the_contract_as_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("eval", str(run), "--episodes", "3", "--seed", "4", "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    metrics = json.loads(lines[0])
    needed = {
        "episodes",
        "success_rate",
        "return_nominal",
        "steps_mean",
        "distance_mean",
        "device",
        "platform",
        "versions",
        "commit",
        "date",
    }
    assert needed | {"seed", "config"} <= metrics.keys()
    assert (metrics["episodes"], metrics["seed"]) == (3, 4)
    assert json.loads((run / "eval.json").read_text()) == metrics


def test_an_agent_acts_as_it_was_evaluated(run: Path) -> None:
    agent = s5wm.load(s5wm.Run(run))
    obs = np.array([0.5, -0.25], np.float32)
    action, state = agent.act(obs, agent.init())
    again, _ = agent.act(obs, state, first=True)
    assert action.shape == (1,)
    assert action.dtype == np.float32
    np.testing.assert_array_equal(action, again)
    assert np.abs(agent.act(1e6 * obs, state)[0]) <= 1.0
    with pytest.raises(ValueError, match="one at a time"):
        agent.act(np.zeros((3, 2)), state)


def test_an_agent_is_short_in_print(run: Path) -> None:
    agent = s5wm.load(run)
    assert repr(agent) == (
        f"TrainedAgent(ppo cpu toy/double-integrator; {run / 'best'}, {agent_steps(run):,} environment steps; "
        "obs (2,), action (1,))"
    )


def agent_steps(run: Path) -> int:
    return json.loads((run / "best" / "eval.json").read_text())["env_steps"]


def test_another_configuration_is_refused_on_an_existing_run(run: Path, capsys) -> None:
    common = ["train", "toy/double-integrator", "--agent", "ppo", "--run", str(run), "--env-steps", "192"]
    assert call(*common, *options([*TINY, "agent.units=5"])) == 2
    assert "agent.units: 4 against 5" in capsys.readouterr().err


def test_a_larger_budget_goes_on_where_the_run_stopped(run: Path, tmp_path: Path, capsys) -> None:
    import shutil

    copy = shutil.copytree(run, tmp_path / "copy")
    common = ["train", "toy/double-integrator", "--agent", "ppo", "--run", str(copy), "--env-steps", "256"]
    assert call(*common, *options(TINY), "--json") == 0
    out = capsys.readouterr()
    assert "going on at 192" in out.err
    assert f"drawn: {copy / 'plots' / 'curves.png'}" in out.err  # a task without a drone has no flight
    assert {p.name for p in (copy / "plots").iterdir()} == {"curves.png", "curves.svg"}
    assert json.loads(out.out)["run"] == str(copy)
    assert [row["env_steps"] for row in s5wm.Run(copy).metrics] == [64, 128, 192, 256]
    assert call("train", "--run", str(copy), "--env-steps", "320") == 0  # the run knows its own experiment
    assert "going on at 256" in capsys.readouterr().err
    assert call("train", "--run", str(tmp_path / "none")) == 2
    assert "no task was named" in capsys.readouterr().err


@pytest.mark.parametrize(("written", "meant"), [("1e5", 100_000), ("2.5e6", 2_500_000), ("10_000", 10_000)])
def test_a_budget_may_be_written_as_people_write_it(written: str, meant: int) -> None:
    assert tyro.cli(VERBS["train"].load(), args=["hover", "--env-steps", written]).env_steps == meant


@pytest.mark.parametrize("written", ["1.5", "many", "inf", "nan"])
def test_what_is_no_whole_number_is_no_budget(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "hover", "--env-steps", written) == 2
    assert "--env-steps" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
@pytest.mark.parametrize("verb", ["train hover", "eval pretrained/split-s"])
def test_a_seed_that_no_key_has_is_refused(verb: str, seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*verb.split(), "--seed", seed) == 2
    assert f"seed is {seed}; it must lie in [0, 2^32)" in capsys.readouterr().err


def test_processes_that_train_as_one_wake_no_device_before_they_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    woken: list[str] = []
    for name in ("check_devices", "turn_on"):
        monkeypatch.setattr(f"s5wm.cli.{name}", lambda name=name: woken.append(name))
    options = ["--run", str(tmp_path / "run")]
    assert call("train", "hover", *options, "--coordinator", "nonsense") == 2
    assert "HOST:PORT" in capsys.readouterr().err
    assert woken == []
    assert call("train", "nowhere", *options) == 2
    assert woken == ["check_devices", "turn_on"]


def test_a_new_run_begins_with_the_parameters_of_another(run: Path, tmp_path: Path, capsys) -> None:
    command = [
        "train",
        "toy/double-integrator",
        "--agent",
        "ppo",
        "--run",
        str(tmp_path / "new"),
        *options(TINY),
    ]
    assert call(*command, "--env-steps", "64", "--from", str(run)) == 0
    assert f"begins with the parameters of {run} (latest policy, trained for 192" in capsys.readouterr().err
    assert [life["from"]["run"] for life in lives(tmp_path / "new")] == [str(run)]
    assert [row["env_steps"] for row in s5wm.Run(tmp_path / "new").metrics] == [64]
    assert call(*command, "--env-steps", "128", "--from", str(run)) == 0  # the same command goes on
    assert call(*command, "--env-steps", "128", "--from", str(tmp_path)) == 2
    assert "name another directory" in capsys.readouterr().err
    assert call(*command[:5], str(tmp_path / "other"), "--from", str(run)) == 2
    assert "agent.units: 4 against 128" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_run_in_use_is_refused(run: Path, capsys) -> None:
    with RunDirectory(run):
        assert call("resume", str(run)) == 73
    assert f"in use by process {os.getpid()}" in capsys.readouterr().err


def test_a_shipped_policy_is_small_whole_and_flies_alike(run: Path, tmp_path: Path, capsys) -> None:
    assert call("ship", str(run), "toy", "--to", str(tmp_path)) == 0
    shipped = tmp_path / "toy"
    assert {p.name for p in shipped.iterdir()} == {"policy.npz", "config.json", "eval.json", "manifest.json"}
    assert sum(p.stat().st_size for p in shipped.iterdir()) < 5e6
    obs = np.array([0.3, 0.1], np.float32)
    ours, theirs = s5wm.load(run), s5wm.load(shipped)
    np.testing.assert_array_equal(ours.act(obs, ours.init())[0], theirs.act(obs, theirs.init())[0])
    capsys.readouterr()
    assert call("eval", str(shipped), "--episodes", "100", "--json") == 0
    metrics, stored = json.loads(capsys.readouterr().out), json.loads((shipped / "eval.json").read_text())
    assert metrics["return_nominal"] == stored["return_nominal"]
    assert {p.name for p in shipped.iterdir()} == {"policy.npz", "config.json", "eval.json", "manifest.json"}

    out = tmp_path / "flown"
    assert call("eval", str(shipped), "--episodes", "2", "--out", str(out)) == 0
    assert {p.name for p in out.iterdir()} == {"eval.json", "flights.npz"}
    assert "drone" not in capsys.readouterr().err  # the task has none
    for refused, code in ((run, 2), (shipped, 2), (shipped / "policy.npz", 73)):
        before = (run / "eval.json").read_bytes()
        assert call("eval", str(shipped), "--episodes", "2", "--out", str(refused)) == code
        assert "name another folder" in capsys.readouterr().err
        assert (run / "eval.json").read_bytes() == before

    content = bytearray((shipped / "policy.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (shipped / "policy.npz").write_bytes(content)
    with pytest.raises(CorruptError, match="has changed"):
        s5wm.load(shipped)


def test_a_damaged_best_policy_gives_way_to_the_latest(run: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "best" / "policy.npz").write_bytes(b"PK")
    said: list[str] = []
    agent = load_agent(copy, which="best", warn=said.append)
    assert agent.source == copy / "checkpoints" / "000000000192"
    assert "damaged" in said[0]


def test_a_run_without_a_checkpoint_gives_its_best_policy(run: Path, tmp_path: Path) -> None:
    import shutil

    copy, said = shutil.copytree(run, tmp_path / "copy"), []
    shutil.rmtree(copy / "checkpoints")
    assert load_agent(copy, which="latest", warn=said.append).source == copy / "best"
    assert said == [f"{copy} holds no whole latest policy; taking the best one"]
    assert load_subject(copy, which="latest", warn=said.append).facts.startswith(f"best policy of {copy}")
    shutil.rmtree(copy / "best")
    with pytest.raises(RunDirectoryError, match="has no policy yet"):
        load_agent(copy, which="latest", warn=said.append)


def test_the_panel_of_a_run_that_goes_on_knows_what_came_before(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "terminal", lambda title, task: Panel(title))
    monkeypatch.setattr(
        Panel, "close", lambda panel: (panel.write_row({"env_steps": 192}), panel._live.stop())
    )
    assert running.run_experiment(
        load_experiment(run / "config.json", warn=print), run
    )  # its budget is used up
    rows = [row for row in s5wm.Run(run).metrics if "eval/success" in row]
    best = max(row["eval/success"] for row in rows), max(row["eval/return_nominal"] for row in rows)
    said = capsys.readouterr().err
    assert f"best evaluations so far: success {best[0]:.0%}, return {best[1]:.1f}" in said


def test_a_resumed_run_keeps_its_budget(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in (["--minutes", "12"], ["--env-steps=1e5"]):
        assert call("resume", str(run), *option) == 2
        assert "s5wm train --run RUN --minutes 12" in capsys.readouterr().err


def test_every_verb_names_the_policy_of_a_run_alike(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("eval", "export", "ship", "view"):
        assert call(verb, "--help") == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "--policy {best,latest}" in said and "--which" not in said, verb


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", "--json") == 0
    known = json.loads(capsys.readouterr().out)
    assert {"race/split-s", "race/figure-8-state", "hover"} <= set(known["tasks"])
    sizes = ["cpu", "1m", "12m"]
    worlds = dict.fromkeys(("s5wm", "s5wm-p", "dreamerv3", "dreamerv3-p"), sizes)
    assert known["agents"] == worlds | {"ppo": ["cpu"], "ppo-asymmetric": ["cpu"]}
    assert call("list") == 0
    assert "race/split-s" in capsys.readouterr().out


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["matmul_correct"] is True
    assert found["versions"]["jax"]
    assert found["free_gb"] > 0


def test_bench_env(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["bench", "env", "--task", "toy/memory", "--num-envs", "2", "--steps", "3", "--repeats", "3"]
    assert call(*common, "--json") == 0
    metrics = json.loads(capsys.readouterr().out)
    assert len(metrics["samples"]) == 3
    assert metrics["env_steps_per_s"] == sorted(metrics["samples"])[1]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(verb, "--help") == 0
    assert f"Example: s5wm {verb}" in " ".join(capsys.readouterr().out.split())


def test_make_is_a_stream_of_episodes_in_pure_jax() -> None:
    import jax
    import jax.numpy as jnp

    env = s5wm.make("toy/double-integrator")
    state, timestep = env.reset(jax.random.key(0))
    state, timestep = jax.jit(lambda *given: env.step(*given))(state, jnp.zeros(1), jax.random.key(1))
    assert timestep.obs.shape == env.spec.obs_shape


def test_make_knows_the_task_of_a_policy() -> None:
    """A policy reads the observations of the task that it was trained on."""
    env, agent = s5wm.make("pretrained/split-s", evaluation=True), s5wm.load("pretrained/split-s")
    assert env.spec.obs_shape == agent.experiment.build_env().spec.obs_shape


@pytest.mark.slow
def test_seeds_are_runs_of_their_own_and_go_on_from_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "toy/double-integrator", "--agent", "ppo", "--run", str(tmp_path / "two")]
    assert call(*command, "--seeds", "2", "--seed", "6", "--env-steps", "64", *options(TINY), "--json") == 0
    told = capsys.readouterr()
    paths = [str(tmp_path / "two" / f"seed-{seed}") for seed in (6, 7)]
    assert [each["run"] for each in json.loads(told.out)["runs"]] == paths
    assert "seed 7: evaluated at 64" in told.err
    how = {"agent": "ppo", "run": tmp_path / "two", "overrides": TINY}
    runs = s5wm.train_seeds("toy/double-integrator", count=2, seed=6, env_steps=128, **how)
    assert [str(each.path) for each in runs] == paths
    assert [[row["env_steps"] for row in each.metrics] for each in runs] == [[64, 128], [64, 128]]


def test_what_is_measured_after_several_horizons_is_one_row() -> None:
    rows = _by_horizon(
        {"r2_10": 0.5, "r2_1": 1.0, "auc/1": None, "error/gate_1": 1.0, "bias_1": 2.0, "kl": 3.25}
    )
    assert [(name, text.split()) for name, text in rows] == [
        ("after", ["1", "steps", "10", "steps"]),
        ("r2", ["1", "0.5"]),
        ("bias", ["2"]),
        ("kl", ["3.25"]),
    ]


def test_the_function_and_the_subpackage_of_one_name_live_together() -> None:
    code = (
        "import s5wm; from s5wm.training.run import Trainer; import s5wm.training.loop\n"
        "assert callable(s5wm.train) and s5wm.train.__module__ == 's5wm.api'\n"
        "assert s5wm.nn.S5Config().width == 256"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, timeout=60)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "JAX_PLATFORMS": "cpu"}


@pytest.mark.faults  # a process of its own; training/test_run.py signals this one
def test_a_signal_to_the_command_saves_and_exits_resumable(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s5wm", "train", "toy/double-integrator", "--agent", "ppo"]
    command += ["--run", str(tmp_path / "run"), *options(TINY), "--env-steps", "100000000"]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not read_rows(RunDirectory(tmp_path / "run").metrics) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "s5wm resume" in err
    assert list((tmp_path / "run" / "checkpoints").glob("0*"))


def test_no_line_of_the_overview_is_cut(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert call("--help") == 0
    out = capsys.readouterr().out
    assert "..." not in out.replace("VERB ...", "")
    assert "Learn a simulator of an environment" in out


def test_lists_are_told_in_words() -> None:
    assert (_listed([]), _listed(["gymnax", "brax"]), _listed(3.5)) == ("none", "gymnax, brax", "3.5")
    assert {"gymnax", "brax", "wandb", "trackio", "onnxruntime"} <= set(OPTIONAL)


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_no_default_that_is_none(verb: str, capsys) -> None:
    assert call(verb, "--help") == 0
    out = capsys.readouterr().out
    for odd in ("default: )", "default: None", "default: False", "{None"):
        assert odd not in out
