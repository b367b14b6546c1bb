"""Checks of an installation, and of the files of a run."""

import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from s5wm.distributed.compilecache import turn_on
from s5wm.distributed.memory import free_bytes
from s5wm.distributed.switches import device_problem
from s5wm.errors import S5wmError
from s5wm.experiments.experiment import load_experiment
from s5wm.experiments.trained import is_run
from s5wm.runs.checkpoint import Checkpoints, restore
from s5wm.runs.directory import CONFIG, RunDirectory
from s5wm.runs.files import MANIFEST, read_json, verify_manifest, whole_folder
from s5wm.runs.log import read_rows
from s5wm.runs.provenance import commit, provenance, versions

OPTIONAL = (
    *("rich", "matplotlib", "PIL", "tensorboardX", "gymnasium", "gymnax", "brax"),
    *("onnx", "onnxruntime", "wandb", "trackio"),
)

SPARE_DISK = 1e9
SPARE_MEMORY = 1e9

Part = tuple[str, str]


def examine() -> dict[str, Any]:
    """Facts about the installation, and under ``problems`` its faults; few without a device."""
    if problem := device_problem():
        return {"versions": versions(), "commit": commit(), "problems": [problem]}
    cache = turn_on()
    matrix = jnp.ones((512, 512))
    begun = time.perf_counter()
    correct = float(jax.jit(lambda x: (x @ x).sum())(matrix)) == 512.0**3
    seconds = time.perf_counter() - begun
    memory, disk = free_bytes(), shutil.disk_usage(Path.cwd()).free
    saved = _saves_and_restores()
    devices = jax.devices()
    problems = {
        "a compiled matrix product is wrong: reinstall jax and jaxlib": not correct,
        f"a checkpoint is not what was saved: {saved}": saved is not None,
        f"less than {SPARE_DISK / 1e9:.0f} GB of disk are free here: checkpoints may fail": disk < SPARE_DISK,
        "less than 1 GB of memory is free": memory is not None and memory < SPARE_MEMORY,
        "an NVIDIA GPU is here and JAX does not use it: pip install 's5wm[cuda]'": (
            Path("/dev/nvidia0").exists() and devices[0].platform == "cpu"
        ),
    }
    return provenance() | {
        "devices": [str(device) for device in devices],
        "free_gb": None if memory is None else round(memory / 1e9, 2),
        "free_disk_gb": round(disk / 1e9, 2),
        "matmul_correct": correct,
        "checkpoint_correct": saved is None,
        "compile_and_run_s": round(seconds, 3),
        "compiled_programs": str(cache.folder) if cache.folder else f"not kept: {cache.reason}",
        "missing_optional": [name for name in OPTIONAL if find_spec(name) is None],
        "problems": [text for text, is_so in problems.items() if is_so],
    }


def inspect_run(folder: Path) -> list[Part]:
    """Every part of a run directory or shipped policy with ``whole`` or its fault."""
    if not is_run(folder):
        return [("policy", _state(lambda: verify_manifest(folder)))]
    directory = RunDirectory(folder)
    checkpoints = Checkpoints(directory.checkpoints, keep=1)
    parts = [("config.json", _state(lambda: load_experiment(folder / CONFIG, warn=lambda _: None)))]
    start, best = whole_folder(directory.start), whole_folder(directory.best)
    if start.exists():
        parts.append(("start", _state(lambda: verify_manifest(start))))
    for env_steps in checkpoints.steps():
        parts.append((f"checkpoint {env_steps}", _state(lambda n=env_steps: checkpoints.verify(n))))
    if best.exists():
        parts.append(("best", _state(lambda: verify_manifest(best))))
    if directory.metrics.exists():
        lines = len(directory.metrics.read_bytes().splitlines())
        rows = len(read_rows(directory.metrics))
        torn = f", {lines - rows} lines torn or overruled" if lines > rows else ""
        parts.append(("metrics.jsonl", f"whole: {rows} rows{torn}"))
    if (folder / "eval.json").exists():
        parts.append(("eval.json", _state(lambda: read_json(folder / "eval.json"))))
    return parts


def _state(check: Any) -> str:
    try:
        check()
    except S5wmError as error:
        return f"damaged: {error}"
    return "whole"


def _saves_and_restores() -> str | None:
    state = {"x": jnp.arange(3.0), "large": jnp.arange(2.0**19), "key": jax.random.key(1)}
    try:
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(Path(folder), keep=1)
            checkpoints.save(1, state, {}, {"w": state["x"]})
            path = checkpoints.newest(lambda _: None)
            assert path is not None and (path / MANIFEST).is_file()
            restored, _ = restore(path, jax.eval_shape(lambda: state))
    except (S5wmError, OSError, AssertionError) as error:
        return repr(error)
    same = all(np.array_equal(restored[name], state[name]) for name in ("x", "large"))
    return None if same else "arrays differ"
