"""Runs killed at random moments, bits flipped, configurations refused, a soak, and what saving costs:

    python benchmarks/faults.py [--parts kills flips refusals soak saving] [--minutes 20] --out results/faults/cpu.json

Exits 1 where a promise of docs/reliability.md is broken.  Parts that are not run keep their figures.
"""

import argparse
import functools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from checkout import ROOT

SEED = 20

KILLS, FLIPS, SAVES = 24, 120, 200

# Small enough to be killed by the dozen; the replay of the world-model agent is saved by what has changed.
SHORT = (
    *("train.num_envs=4", "train.rollout_length=16", "train.iterations_per_chunk=4", "train.eval_every=2048"),
    *("train.eval_episodes=2", "train.checkpoint_every=512", "task.steps=10"),
    *("train.curriculum.fallback=2", "train.curriculum.success=2"),  # which would depend on the budget
)
TINY = {
    "ppo": ("agent.units=4", "agent.layers=1", "agent.epochs=1", "agent.minibatches=2"),
    "s5wm": (
        *(
            "agent.world_model.units=8",
            "agent.world_model.core.width=8",
            "agent.world_model.core.state_size=8",
        ),
        *("agent.world_model.core.layers=1", "agent.world_model.core.block_size=4"),
        *("agent.world_model.encoder_layers=1", "agent.world_model.prior_layers=1"),
        *("agent.world_model.decoder_layers=1", "agent.actor.units=8", "agent.critic.units=8"),
        *("agent.actor_critic.imagination_horizon=2", "agent.actor_critic.num_imagination_starts=4"),
        *("agent.replay.capacity=65536", "agent.replay.batch=2", "agent.replay.length=4"),
        *("agent.replay.prefill=64", "agent.updates_per_rollout=1", "agent.actor_critic_warmup=0"),
    ),
}
INTERVAL = 512

TIMES = ("minutes", "wall_minutes", "eta_minutes", "env_steps_per_s", "updates_per_s", "time/")


def command(*arguments: str) -> list[str]:
    """The command line of this Python."""
    return [sys.executable, "-m", "s5wm", *arguments]


def training(run: Path, env_steps: int, agent: str = "s5wm") -> list[str]:
    """Arguments of a tiny training."""
    options = [word for item in (*SHORT, *TINY[agent]) for word in ("--override", item)]
    budget = ["--env-steps", str(env_steps), "--run", str(run)]
    return command("train", "toy/double-integrator", "--agent", agent, *budget, *options)


def environment(cache: Path) -> dict[str, str]:
    """Compiled programs are kept between lives: it is training and saving that is to be killed, not compiling."""
    own = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return own | os.environ | {"PYTHONPATH": str(ROOT / "src"), "JAX_PLATFORMS": "cpu"}


def metrics(run: Path) -> list[dict[str, Any]]:
    """What was logged, without what a clock says."""
    from s5wm.runs.directory import RunDirectory
    from s5wm.runs.log import read_rows

    rows = read_rows(RunDirectory(run).metrics)
    return [{k: v for k, v in row.items() if not k.startswith(TIMES)} for row in rows]


def kills(folder: Path, count: int) -> dict[str, Any]:
    """Half of them hit a training, beside one that is not killed; half a process that saves a replay without pause."""
    rng = random.Random(SEED)
    whole, part, cache = folder / "whole", folder / "part", folder / "cache"
    endless = training(part, 10**9, "ppo")
    lives = [_life(endless, part, cache, rng.uniform(0.0, 8.0)) for _ in range(count - count // 2)]
    env_steps = max(life["reached_steps"] for life in lives) // INTERVAL * INTERVAL + 2 * INTERVAL
    end, _ = (
        subprocess.run(
            training(run, env_steps, "ppo"), env=environment(cache), check=False, capture_output=True
        )
        for run in (part, whole)
    )
    savers = [_saver_life(folder / "saver", rng.uniform(0.0, 3.0)) for _ in range(count // 2)]
    return {
        "kills": count,
        "survived": sum(life["is_whole"] for life in [*lives, *savers]) if end.returncode == 0 else 0,
        "while_saving": sum(life["while_saving"] for life in [*lives, *savers]),
        "most_work_lost_steps": max(life["lost_steps"] for life in lives),
        "interval_steps": INTERVAL,
        "same_metrics": metrics(whole) == metrics(part),
        "same_policy": _policy(whole) == _policy(part),
        "lives": lives,
        "savers": savers,
    }


def _life(arguments: list[str], run: Path, cache: Path, delay: float) -> dict[str, Any]:
    """Start or go on, and kill ``delay`` seconds after the first row of this life."""
    process = subprocess.Popen(arguments, env=environment(cache), stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    begun = threading.Event()
    listener = threading.Thread(target=_listen, args=(process, said, begun), daemon=True)
    listener.start()
    begun.wait(timeout=300)
    rows = _rows(run)
    while _rows(run) == rows and process.poll() is None:
        time.sleep(0.02)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    listener.join()
    newest = _newest(run / "checkpoints", said)
    reached = max((row["env_steps"] for row in _raw(run)), default=0)
    return {
        "after_s": round(delay, 3),
        "reached_steps": reached,
        "lost_steps": reached - newest,
        "while_saving": any((run / "checkpoints").glob("partial-*")),
        # Of what has its name, nothing is damaged.
        "is_whole": not any("damaged" in text for text in said),
    }


SAVER = """
import sys
from pathlib import Path
import numpy as np, jax.numpy as jnp
from s5wm.runs.checkpoint import Checkpoints
checkpoints, replay = Checkpoints(Path(sys.argv[1]), keep=3), np.zeros((4096, 512))
begin = checkpoints.steps()[-1] if checkpoints.steps() else 0
print("compiled", file=sys.stderr, flush=True)
for step in range(begin + 1, begin + 10_000):
    replay[:] = np.where(np.arange(4096)[:, None] % 7 == step % 7, step, replay)
    checkpoints.save(step, {"replay": replay, "step": jnp.asarray(step)}, {"env_steps": step}, {"w": jnp.ones(9)})
"""


def _saver_life(folder: Path, delay: float) -> dict[str, Any]:
    command = [sys.executable, "-c", SAVER, str(folder)]
    process = subprocess.Popen(command, env=environment(folder), stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    begun = threading.Event()
    listener = threading.Thread(target=_listen, args=(process, said, begun), daemon=True)
    listener.start()
    begun.wait(timeout=300)
    time.sleep(0.5 + delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    listener.join()
    newest = _newest(folder, said)
    saving = any(folder.glob("partial-*"))
    return {
        "newest": newest,
        "while_saving": saving,
        "is_whole": not any("damaged" in text for text in said),
    }


def _newest(checkpoints: Path, said: list[str]) -> int:
    from s5wm.runs.checkpoint import Checkpoints

    newest = Checkpoints(checkpoints, keep=1).newest(said.append)
    return 0 if newest is None else int(newest.name)


def _listen(process: "subprocess.Popen[str]", said: list[str], begun: threading.Event) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(("going on", "compiled", "checkpoint")):
            said.append(line)
        if line.startswith("compiled"):
            begun.set()
    begun.set()


def _raw(run: Path) -> list[dict[str, Any]]:
    from s5wm.runs.log import read_rows

    return read_rows(run / "metrics.jsonl")


def _rows(run: Path) -> int:
    return len(_raw(run))


def _policy(run: Path) -> dict[str, bytes]:
    from s5wm.runs.checkpoint import Checkpoints

    newest = Checkpoints(run / "checkpoints", keep=1).newest(print)
    assert newest is not None
    with np.load(newest / "policy.npz", allow_pickle=False) as stored:
        return {name: stored[name].tobytes() for name in stored.files}


def flips(folder: Path, count: int) -> dict[str, Any]:
    """One random bit of one random file of the newest checkpoint at a time, packs included."""
    import jax.numpy as jnp

    from s5wm.runs.checkpoint import Checkpoints

    rng, values = random.Random(SEED), np.random.default_rng(SEED)
    checkpoints = Checkpoints(folder, keep=3)
    replay = values.normal(size=(1000, 1000))
    for step in range(1, 7):
        replay[step * 20 : step * 20 + 20] += 1.0  # the newest one lies in several packs
        state = {"replay": replay, "params": values.normal(size=(100, 10)), "count": jnp.asarray(step)}
        checkpoints.save(step, state, {"env_steps": step}, {"w": jnp.ones(100)})
    checkpoints.wait()
    newest = checkpoints.steps()[-1]
    files = _files_of(checkpoints.path(newest))
    found, named = 0, 0
    for _ in range(count):
        path = rng.choice(list(files))
        begin, size = rng.choice(files[path])
        whole = path.read_bytes()
        damaged, bit = bytearray(whole), rng.randrange(8 * begin, 8 * (begin + size))
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        said: list[str] = []
        taken = checkpoints.newest(said.append)
        found += taken != checkpoints.path(newest)
        named += taken is not None and any(str(newest) in text for text in said)
        path.write_bytes(whole)
    return {"flips": count, "files": len(files), "found": found, "fallback_found_and_named": named}


def _files_of(checkpoint: Path) -> dict[Path, list[tuple[int, int]]]:
    """Every file of a checkpoint, and which of its bytes are: of a pack, those of the blocks it is named for."""
    whole = [path for path in checkpoint.rglob("*") if path.is_file() and path.stat().st_size]
    files = {path: [(0, path.stat().st_size)] for path in whole}
    for blocks in json.loads((checkpoint / "blocks.json").read_text()).values():
        for pack, begin, size, _ in blocks:
            files.setdefault(checkpoint.parent / "blocks" / pack, []).append((begin, size))
    return files


REFUSED = (
    *("agent.world_model.unit=3", "agent.world_model.units=wide", "agent.world_model.units=0"),
    *("agent.world_model.units=-1", "agent.world_model.units=1.5", "agent.world_model.units=null"),
    *(
        "agent.optimiser.learning_rate=-1",
        "agent.optimiser.learning_rate=NaN",
        "agent.optimiser.learning_rate=0",
    ),
    *("agent.optimiser.learning_rate=Infinity", "agent.optimiser.learning_rate=fast"),
    *(
        "agent.replay.length=5000",
        "agent.replay.batch=0",
        "agent.replay.capacity=0",
        "agent.replay.capacity=-16",
    ),
    "agent.replay.prefill=100000000",
    *("agent.actor_critic.imagination_horizon=0", "agent.actor_critic.num_imagination_starts=100000000"),
    *("agent.actor_critic.gradient=magic", "agent.discount_horizon=1", "agent.updates_per_rollout=0"),
    *(
        "agent.type=Nothing",
        "agent.type=os.system",
        "task.type=__import__",
        "agent=3",
        "agent._target_=os.system",
    ),
    *("train.num_envs=0", "train.num_envs=-4", "train.num_envs=many", "train.num_envs=1e400"),
    *("train.rollout_length=17", "train.iterations_per_chunk=0", "train.env_steps=0", "train.eval_every=-1"),
    *("train.checkpoint_every=0", "train.keep=0", "train.curriculum.evaluations=0", "train.nothing=1"),
    *("train.minutes=-1", "seed=-1", "seed=one", "agent.replay.capacity=1600000000", "task.seconds=0"),
    *("no_equals_sign", "=3", "agent.world_model.core.type=Transformer"),
)


def refusals(folder: Path, _: int) -> dict[str, Any]:
    """Configurations that no training can start from; seconds are those of the processor."""
    cases: list[dict[str, Any]] = []
    for assignment in REFUSED:
        run = folder / "refused"
        arguments = command("train", "hover", "--run", str(run), "--override", assignment)
        cases.append(_refused(arguments, assignment, folder) | {"no_run": not run.exists()})
    huge = folder / "huge"
    huge.mkdir()
    (huge / "config.json").write_text('{"schema": 1, "experiment": {"' + "x" * 10_000_000 + '": 1}}')
    cases.append(_refused(command("resume", str(huge)), "10 MB of configuration", folder) | {"no_run": True})
    seconds = [case["seconds"] for case in cases]
    return {
        "configurations": len(cases),
        "refused": sum(c["code"] in (2, 65) and c["told"] and c["no_run"] for c in cases),
        "seconds_median": round(statistics.median(seconds), 3),
        "seconds_max": round(max(seconds), 3),
        "cases": cases,
    }


def _refused(arguments: list[str], name: str, folder: Path) -> dict[str, Any]:
    with (folder / "said").open("w+") as file:
        process = subprocess.Popen(arguments, env=environment(folder / "cache"), stdout=file, stderr=file)
        # Processor time, and of this child alone: others may run beside it.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        file.seek(0)
        said = file.read()
    return {
        "case": name,
        "code": process.returncode,
        "told": bool(said.strip()) and "Traceback" not in said and "compiling" not in said,
        "seconds": round(usage.ru_utime + usage.ru_stime, 3),
    }


def soak(folder: Path, minutes: int) -> dict[str, Any]:
    """A small run that trains, evaluates and saves for so long after its first evaluation, watched from outside.

    It saves and evaluates some ten to fifteen times a minute, 200 to 300 times in all; real runs do so once in a
    minute or two.
    """
    run, log_path = folder / "soak", folder / "soak.log"
    arguments = training(run, 10**9)
    for name in ("checkpoint_every", "eval_every"):
        arguments += ["--override", f"train.{name}=24576"]
    watched = environment(folder / "cache") | {"JAX_LOG_COMPILES": "1"}
    samples: list[dict[str, float]] = []
    with log_path.open("w") as log:
        process = subprocess.Popen(arguments, env=watched, stderr=log, stdout=log)
        while process.poll() is None and not any("eval/success" in row for row in _raw(run)):
            time.sleep(1.0)
        begun = time.monotonic()
        while time.monotonic() - begun < 60 * minutes and process.poll() is None:
            time.sleep(5.0)
            samples.append(_sample(process.pid, time.monotonic() - begun, log_path))
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=120)
    warm = [sample for sample in samples if sample["minutes"] >= minutes / 4]
    t, rss = np.array([s["minutes"] for s in warm]), np.array([s["rss_mb"] for s in warm])
    return {
        "minutes": round(samples[-1]["minutes"], 1),
        "exit_code": code,
        "chunks": len(_raw(run)),
        "mb_per_minute": round(float(np.polyfit(t, rss, 1)[0]), 3),
        "open_files": [int(min(s["files"] for s in warm)), int(max(s["files"] for s in warm))],
        "recompilations": int(warm[-1]["compilations"] - warm[0]["compilations"]),
        "samples": samples[::6],
    }


def _sample(pid: int, seconds: float, log: Path) -> dict[str, float]:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    rss = next((int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS")), 0.0)
    return {
        "minutes": round(seconds / 60, 3),
        "rss_mb": round(rss, 2),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "compilations": log.read_text().count("Finished XLA compilation"),
    }


def saving(_: Path, count: int) -> dict[str, Any]:
    """What a checkpoint costs the training that goes on: the Split-S at its own interval and recorded speed.

    The worst case: the replay is full, and every number in it has changed since the last save.
    """
    import jax

    from s5wm.experiments.presets import preset
    from s5wm.runs.checkpoint import Checkpoints
    from s5wm.training.state import init_train

    del count
    experiment = preset("race/split-s", "s5wm", "cpu")
    program, config = experiment.build(), experiment.train
    state = init_train(program.env, program.agent, config.num_envs, 0)
    policy = program.agent.policy(state.learner)
    held: list[float] = []
    whole: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), keep=3)
        for step in range(1, 8):
            full = jax.tree.map(functools.partial(_noise, seed=step), state)
            begun = time.perf_counter()
            checkpoints.save(step, full, {}, policy)
            held.append(time.perf_counter() - begun)
            checkpoints.wait()
            whole.append(time.perf_counter() - begun)
        written = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
    recorded = json.loads((ROOT / "results/learning/race-split-s-s5wm-cpu-0.json").read_text())["trained"]
    interval = 60 * recorded["minutes"] * config.checkpoint_every / recorded["env_steps"]
    return {
        "preset": "race/split-s s5wm cpu",
        "interval_steps": config.checkpoint_every,
        "interval_s": round(interval, 1),
        "held_s": [round(x, 4) for x in held],
        "whole_s": [round(x, 4) for x in whole],
        "three_checkpoints_mb": round(written / 1e6, 2),
        # As if the background thread took its whole time from training, as it does on one core.
        "percent": round(100 * statistics.median(whole) / interval, 3),
    }


def _noise(leaf: Any, seed: int) -> Any:
    """Numbers that no save has seen, in place of a large array."""
    if leaf.dtype != np.float32 or leaf.nbytes < 2**20:
        return leaf
    return np.random.default_rng(seed).random(leaf.shape, np.float32)


def incremental(folder: Path, count: int) -> dict[str, Any]:
    """Many saves of a replay of which each changes a hundredth: bytes written, memory and open files."""
    import jax.numpy as jnp

    from s5wm.runs.checkpoint import Checkpoints

    checkpoints, rows = Checkpoints(folder / "saves", keep=3), 2**20
    replay, policy = np.zeros((rows, 8), np.float32), {"w": jnp.ones(3)}
    rng, written, usage = np.random.default_rng(SEED), list[int](), list[tuple[float, int]]()
    for step in range(count):
        begin = step * rows // 100 % rows
        replay[begin : begin + rows // 100] = rng.normal(size=(rows // 100, 8))
        before = {p.name for p in (folder / "saves" / "blocks").glob("*.pack")}
        checkpoints.save(step + 1, {"replay": replay}, {}, policy)
        checkpoints.wait()
        packs = [p for p in (folder / "saves" / "blocks").glob("*.pack") if p.name not in before]
        written.append(sum(p.stat().st_size for p in packs))
        status = Path("/proc/self/status").read_text().splitlines()
        rss = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
        usage.append((rss, len(os.listdir("/proc/self/fd"))))
    warm = usage[count // 4 :]
    return {
        "saves": count,
        "array_mb": replay.nbytes / 1e6,
        "changed_mb_per_save": round(replay.nbytes / 100 / 1e6, 3),
        "written_mb_median": round(statistics.median(written) / 1e6, 3),
        "written_mb_mean": round(statistics.mean(written) / 1e6, 3),
        "rss_growth_mb": round(warm[-1][0] - warm[0][0], 2),
        "open_files": [min(files for _, files in warm), max(files for _, files in warm)],
    }


PARTS: dict[str, tuple[Callable[[Path, int], dict[str, Any]], int, Callable[[dict[str, Any]], bool]]] = {
    "kills": (
        kills,
        KILLS,
        lambda r: (
            r["survived"] == r["kills"]
            and r["same_metrics"]
            and r["same_policy"]
            and r["most_work_lost_steps"] <= 2 * r["interval_steps"]
        ),
    ),
    "flips": (flips, FLIPS, lambda r: r["found"] == r["fallback_found_and_named"] == r["flips"]),
    "refusals": (refusals, 0, lambda r: r["refused"] == r["configurations"]),
    "incremental": (incremental, SAVES, lambda r: r["open_files"][0] == r["open_files"][1]),
    "saving": (saving, 0, lambda r: r["percent"] <= 3.0),
    "soak": (
        soak,
        20,
        lambda r: r["mb_per_minute"] < 1.0 and r["recompilations"] == 0 and r["exit_code"] == 75,
    ),
}


def earlier(file: Path) -> dict[str, Any]:
    """Parts that were measured before, each with its own machine, versions, commit and date."""
    if not file.is_file():
        return {}
    found = json.loads(file.read_text())
    results = found.pop("results")
    return {
        name: found | part for name, part in results.items()
    }  # older files hold these once, of the last part


def main() -> int:
    """Run the parts, write what they found, and tell whether the promises hold."""
    from s5wm.runs.provenance import provenance

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=int, default=20, help="of the soak")
    parser.add_argument("--out", type=Path, default=Path("runs/faults.json"))
    options = parser.parse_args()
    results = earlier(options.out)
    options.out.parent.mkdir(parents=True, exist_ok=True)

    def run(name: str) -> None:
        part, count, holds = PARTS[name]
        with tempfile.TemporaryDirectory() as folder:
            found = part(Path(folder), options.minutes if name == "soak" else count)
        about = {"cpus": len(os.sched_getaffinity(0)), "seed": SEED, **provenance()}
        results[name] = found | {"holds": holds(found)} | about
        print(f"{name}: {'holds' if results[name]['holds'] else 'BROKEN'}", file=sys.stderr)
        options.out.write_text(json.dumps({"results": results}, indent=2) + "\n")

    # The soak mostly waits: the others run beside it.
    lanes = [[n for n in options.parts if n == "soak"], [n for n in options.parts if n != "soak"]]
    with ThreadPoolExecutor(max_workers=2) as pool:
        for lane in [pool.submit(lambda names: [run(n) for n in names], names) for names in lanes]:
            lane.result()
    return int(not all(results[name]["holds"] for name in options.parts))


if __name__ == "__main__":
    sys.exit(main())
