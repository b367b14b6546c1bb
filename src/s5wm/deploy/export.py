"""``s5wm export``: a trained policy as ONNX and C, with all data that the software which runs it needs."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from s5wm.deploy.c_file import to_c
from s5wm.deploy.card import CARD, FlightCard
from s5wm.deploy.describe import act_along, card_of, fly_golden
from s5wm.deploy.golden import Golden
from s5wm.deploy.graph import Graph
from s5wm.deploy.lower import lower
from s5wm.deploy.onnx_file import to_onnx
from s5wm.deploy.parity import (
    FLOWN_TOLERANCE,
    RANDOM_TOLERANCE,
    Errors,
    ReferenceEngine,
    compare,
    random_observations,
)
from s5wm.deploy.readme import readme
from s5wm.deploy.runtime.engines import CEngine, Engine, OnnxEngine, find_compiler
from s5wm.deploy.student import StudentConfig, distil
from s5wm.errors import ConfigError, CorruptError, RunDirectoryError, S5wmError
from s5wm.experiments.trained import Which, load_agent
from s5wm.runs.codec import encode
from s5wm.runs.files import MANIFEST, read_json, write_bytes, write_manifest


class ParityError(S5wmError):
    """An exported file does not do what the policy does."""


@dataclass(frozen=True)
class Lengths:
    """Steps of the flights that an export is checked with; images are large, so they get fewer."""

    flown: int
    random: int
    selftest: int


VECTORS = Lengths(flown=1000, random=500, selftest=32)
IMAGES = Lengths(flown=200, random=50, selftest=3)


@dataclass(frozen=True)
class Exported:
    """Result of an export: its folder, and the error of each form against the JAX policy."""

    folder: Path
    card: FlightCard
    parameters: int
    errors: dict[str, Errors]  # by form: reference, onnx, c


def export(
    run: str | Path,
    folder: Path,
    *,
    which: Which,
    log: Callable[[str], None],
    student: StudentConfig | None = None,
) -> Exported:
    """Write the policy of a run to ``folder``, which must be new, empty, or an earlier export.

    With ``student``, what is written is a network without memory that has learned to do the same; the card compares
    the two.

    Raises ``DivergedError`` where the policy is not finite, ``ConfigError`` where a part of it cannot be exported, and
    ``ParityError`` where a written file differs from the policy by more than the tolerances of ``parity``.
    """
    _check_folder(folder)
    _check_packages()
    agent = load_agent(run, which=which, warn=log)
    imitation = None
    if student is not None:
        taught = distil(agent, student, log=log)
        agent, imitation = replace(agent, policy=taught.policy), taught.card
    graph = lower(agent.policy, agent.spec)
    lengths = IMAGES if agent.spec.has_images else VECTORS
    log(f"taking {lengths.flown} steps with the JAX policy ...")
    golden = fly_golden(agent, lengths.flown)
    inputs, none = random_observations(golden, lengths.random), np.zeros(lengths.random, bool)
    none[0] = True
    random = Golden(inputs, none, act_along(agent, inputs, none))
    card = replace(card_of(agent, run, graph, golden), imitation=imitation)
    with tempfile.TemporaryDirectory(prefix="s5wm-export-") as made:
        _write(Path(made), graph, card, golden.first(lengths.selftest))
        errors = _checked(Path(made), card, graph, (golden, random), log)
        golden.save(Path(made) / "golden.npz")
        text = readme(card, graph, errors, selftest_steps=lengths.selftest)
        write_bytes(Path(made) / "README.md", text.encode())
        write_manifest(Path(made))
        _move(Path(made), folder)
    return Exported(folder, card, graph.parameters, errors)


def _check_packages() -> None:
    if missing := [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]:
        raise ConfigError(f"s5wm export needs {' and '.join(missing)}: pip install 's5wm[deploy]'")


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise RunDirectoryError(f"{folder} is a file; name a folder for the export")
    if folder.is_dir() and any(folder.iterdir()) and not _is_export(folder):
        raise RunDirectoryError(f"{folder} is not empty and no earlier export; name another folder")


def _is_export(folder: Path) -> bool:
    """Whether an export wrote this folder: a policy.h alone may be anybody's, and so may a README.md beside it."""
    if not all((folder / name).is_file() for name in (CARD, MANIFEST, "policy.h")):
        return False
    try:
        manifest = read_json(folder / MANIFEST)
    except CorruptError:
        return False
    files = manifest.get("sha256") if isinstance(manifest, dict) else None
    return isinstance(files, dict) and "policy.h" in files and CARD in files


def _write(folder: Path, graph: Graph, card: FlightCard, selftest: Golden) -> None:
    metadata = {name: json.dumps(value) for name, value in encode(card).items()}
    (folder / "policy.onnx").write_bytes(to_onnx(graph, metadata))
    source = to_c(graph, selftest, _about(card))
    (folder / "policy.c").write_text(source.code, encoding="utf-8")
    (folder / "policy.h").write_text(source.header, encoding="utf-8")
    card.save(folder)


def _about(card: FlightCard) -> str:
    origin = card.origin
    made = (
        f"{origin.agent or 'policy'} of {origin.run}, task {origin.task or 'of its own'}, "
        f"trained at commit {origin.commit or 'unknown'}."
    )
    return (
        f"{made}\nWritten by s5wm export on {origin.date}; inputs, frames and rates are in README.md and card.json.\n"
        "C99, no heap, nothing of libm but expf, tanhf and sqrtf.  Do not edit: export again."
    )


def _checked(
    folder: Path, card: FlightCard, graph: Graph, traces: tuple[Golden, Golden], log: Callable[[str], None]
) -> dict[str, Errors]:
    engines: dict[str, Engine] = {
        "reference": ReferenceEngine(graph),
        "onnx": OnnxEngine(folder / "policy.onnx"),
    }
    compiler = find_compiler()
    if compiler is None:
        log("no C compiler here: policy.c is written but not run; call policy_selftest() where you build it")
    else:
        engines["c"] = CEngine(folder, compiler=compiler)
    errors = {
        name: compare(engine, *traces, card.half_ranges, card.rounding) for name, engine in engines.items()
    }
    for name, each in errors.items():
        if not each.fits:
            raise ParityError(
                f"the {name} form differs from the policy by {each.flown:.1e} on its own flight (allowed "
                f"{FLOWN_TOLERANCE:g}) and {each.random:.1e} on random observations (allowed {RANDOM_TOLERANCE:g}); "
                "nothing was written: please report this with the run's config.json"
            )
    return errors


def _move(made: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(
            missing_ok=True
        )  # so that a half-copied export is not taken for a whole one
        for file in sorted(made.iterdir(), key=lambda path: path.name == MANIFEST):
            shutil.copyfile(file, folder / file.name)
    except OSError as error:
        raise RunDirectoryError(
            f"{folder} cannot be written: {error.strerror}; name another folder"
        ) from error
