"""An export holds all that a drone's software needs, and nothing that is not what the policy does."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import s5wm
from s5wm.actions import Box
from s5wm.cli import main
from s5wm.deploy import describe
from s5wm.deploy import export as exporting
from s5wm.deploy.c_calls import literal
from s5wm.deploy.card import FlightCard
from s5wm.deploy.golden import Golden
from s5wm.deploy.parity import FLOWN_TOLERANCE, compare, engine_actions
from s5wm.deploy.runtime.engines import C_FLAGS, CEngine, Engine, OnnxEngine, find_compiler
from s5wm.deploy.runtime.fly import open_export
from s5wm.deploy.runtime.hover import hover_action
from s5wm.errors import ConfigError, CorruptError, RunDirectoryError
from s5wm.experiments.trained import find
from s5wm.runs.files import verify_manifest

from .test_runtime import CARD

pytestmark = pytest.mark.slow


def test_every_form_does_what_the_policy_does(exported):
    assert set(exported.errors) == {"reference", "onnx"} | ({"c"} if find_compiler() else set())
    assert all(each.flown < FLOWN_TOLERANCE and each.random < 1e-5 for each in exported.errors.values())
    golden = Golden.load(exported.folder / "golden.npz")
    assert golden.obs.shape == (1000, 24)
    action = engine_actions(OnnxEngine(exported.folder / "policy.onnx"), golden.inputs, golden.is_first)
    np.testing.assert_allclose(action, golden.action, atol=FLOWN_TOLERANCE)


def test_only_what_acting_needs_is_in_it(exported):
    with np.load(s5wm.load("pretrained/split-s").source / "policy.npz") as stored:
        everything = sum(stored[name].size for name in stored.files)
    assert exported.parameters < 0.4 * everything
    assert exported.parameters == 37574


def test_the_card_tells_what_the_task_is(exported):
    verify_manifest(exported.folder)
    card = FlightCard.load(exported.folder)
    assert card == exported.card
    assert card.control_period == pytest.approx(0.02)
    assert (card.observation.layout, card.observation.shape) == ("B", (24,))
    assert sum(entry.size for entry in card.observation.entries) == 24
    assert [(slot.name, slot.size) for slot in card.memory] == [
        ("core", 64),
        ("latent", 24),
        ("prev_action", 4),
    ]
    assert card.vehicle is not None
    assert card.track is not None
    assert card.vehicle.mass == pytest.approx(0.752)
    assert card.vehicle.rate_max == (10.0, 10.0, 4.0)
    assert len(card.track.gate_pos) == 7
    assert card.track.gate_pos[1] == pytest.approx((9.0, 6.45, 1.05))
    assert all(0.0 < slew <= 2.0 for slew in card.action_slew)


def test_the_onnx_file_describes_itself(exported):
    import onnx

    model = onnx.load(exported.folder / "policy.onnx")
    metadata = {each.key: json.loads(each.value) for each in model.metadata_props}
    assert metadata["control_period"] == pytest.approx(0.02)
    assert metadata["origin"]["run"] == "pretrained/split-s"
    assert [each.name for each in model.graph.input] == ["obs", "h_in"]
    assert [each.name for each in model.graph.output] == ["actions", "h_out"]


def test_the_readme_leaves_no_gap(exported):
    text = (exported.folder / "README.md").read_text()
    assert "@" not in text
    assert "| 15 to 17 | next gate minus position | 10 m | world |" in text
    assert "| 2 | pitch rate, body y left (positive: nose down) | -10 rad/s | 10 rad/s |" in text


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
def test_it_compiles_without_a_warning(exported, compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    target = ["-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"] if "arm" in compiler else []
    more = ["-Wpedantic", "-Wdouble-promotion", "-Wshadow", "-c", "-o", str(tmp_path / "policy.o")]
    command = [compiler, *C_FLAGS, *target, *more, str(exported.folder / "policy.c")]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_c_calls_nothing_but_three_functions(exported, tmp_path):
    library = tmp_path / "policy.o"
    command = [
        find_compiler(),
        *C_FLAGS,
        "-fno-builtin",
        "-c",
        "-o",
        str(library),
        str(exported.folder / "policy.c"),
    ]
    subprocess.run(command, check=True)
    listed = subprocess.run(
        ["nm", "-u", str(library)], capture_output=True, text=True, check=True
    ).stdout.split()
    called = {name for name in listed if name not in ("U", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail")}
    assert called <= {"expf", "tanhf", "sqrtf", "fabsf", "memcpy", "memset"}


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_the_selftest_finds_a_wrong_weight(exported, tmp_path):
    assert CEngine(exported.folder).selftest() < 1e-5
    code = (exported.folder / "policy.c").read_text()
    begin = code.index("{", code.index("_weight[")) + 1
    (tmp_path / "policy.c").write_text(code[:begin] + "1.0f +" + code[begin:])
    (tmp_path / "policy.h").write_text((exported.folder / "policy.h").read_text())
    assert CEngine(tmp_path).selftest() > 1e-3


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_the_self_test_of_the_readme_runs_as_it_stands(exported, tmp_path):
    text = (exported.folder / "README.md").read_text()
    commands = text.split("```sh\n")[1].split("```")[0]
    for name in ("policy.c", "policy.h"):
        shutil.copy(exported.folder / name, tmp_path)
    done = subprocess.run(["sh", "-ec", commands], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0.0 <= float(done.stdout) < FLOWN_TOLERANCE


def test_files_of_other_programs_beside_an_export_are_no_damage(exported, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exported.folder, folder)
    (folder / "check.c").write_text("int main(void) { return 0; }")
    (folder / "runs").mkdir()
    (folder / "runs" / "flights.npz").write_bytes(b"")
    assert open_export(folder) == FlightCard.load(exported.folder)
    (folder / "policy.onnx").write_bytes(b"")
    with pytest.raises(CorruptError, match="policy.onnx has changed"):
        open_export(folder)


def test_rounding_of_actions_far_from_zero_is_no_error():
    class Setpoint(Engine):
        """Answers one rounding away from 1003, and a real difference away from that."""

        def __init__(self, difference):
            self.action = np.array([np.nextafter(np.float32(1003.0), np.float32(2000.0)) + difference])

        def reset(self): ...

        def step(self, obs):
            del obs
            return self.action

    golden = Golden((np.zeros((3, 2), np.float32),), np.arange(3) == 0, np.full((3, 1), 1003.0))
    card = replace(CARD, actions=1, action_low=(1000.0,), action_high=(1010.0,))
    errors = compare(Setpoint(0.0), golden, golden, card.half_ranges, card.rounding)
    assert errors.flown == 0.0 and errors.fits
    assert not compare(Setpoint(1e-3), golden, golden, card.half_ranges, card.rounding).fits


def test_an_export_taken_for_a_run_is_told_what_it_is(exported):
    with pytest.raises(RunDirectoryError, match="is an exported policy and no run: fly it with s5wm fly"):
        find(exported.folder)


def test_a_flight_without_odometry_says_so(exported, tmp_path, capsys):
    pytest.importorskip("pymavlink")
    arguments = [
        "--target",
        "mavlink",
        "--seconds",
        "0.1",
        "--address",
        "127.0.0.1:45123",
        "--engine",
        "onnx",
    ]
    with pytest.raises(SystemExit) as end:
        main(["fly", str(exported.folder), *arguments, "--out", str(tmp_path / "records")])
    said = "".join(capsys.readouterr())
    assert end.value.code == 1
    assert "No ODOMETRY came to 127.0.0.1:45123: does" in said
    assert "s5wm plot" not in said


def test_an_export_is_replaced_and_other_folders_are_not(exported, tmp_path):
    exporting._check_folder(exported.folder)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match="is not empty and no earlier export"):
        exporting.export("pretrained/split-s", tmp_path, which="best", log=lambda _: None)
    with pytest.raises(ConfigError, match="is no exported policy"):
        FlightCard.load(tmp_path)
    replace(exported.card, version=99).save(tmp_path)
    with pytest.raises(ConfigError, match="has format 99, this s5wm reads 1"):
        FlightCard.load(tmp_path)


def test_a_folder_with_a_file_of_an_exports_name_is_no_export(exported, tmp_path):
    (tmp_path / "README.md").write_text("years of work")
    for name, text in (
        ("policy.h", "#define MINE"),
        ("card.json", "{}"),
        ("manifest.json", '{"sha256": {}}'),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(RunDirectoryError, match="is not empty and no earlier export"):
            exporting._check_folder(tmp_path)
    (tmp_path / "manifest.json").write_text("no json")
    with pytest.raises(RunDirectoryError, match="is not empty and no earlier export"):
        exporting._check_folder(tmp_path)
    shutil.copy(exported.folder / "manifest.json", tmp_path)
    exporting._check_folder(tmp_path)


@pytest.mark.parametrize("first", [0, 5])
def test_the_slew_limit_counts_the_first_action_and_is_never_nearly_none(first):
    hover = hover_action(CARD.vehicle)
    action = np.tile(hover, (10, 1))
    action[first:] += np.float32([0.4, 0.0, 0.01, -0.2])
    is_first = np.isin(np.arange(10), [0, first])
    golden = Golden((np.zeros((10, 24), np.float32),), is_first, action)
    slew = describe._slew(golden, Box((4,)), CARD.vehicle)
    assert slew == pytest.approx((0.5, 0.05, 0.05, 0.25), abs=1e-6)
    alone = describe._slew(golden, Box((4,), low=0.0, high=10.0), None)
    assert alone == pytest.approx((0.25,) * 4)  # no step inside a flight: the floor, in units of half a range


def test_numbers_in_c_are_the_numbers_that_were():
    rng = np.random.default_rng(0)
    values = rng.normal(size=1000).astype(np.float32) * np.float32(10.0) ** rng.integers(-30, 30, 1000)
    values = np.concatenate([values, [0.0, -0.0, 1.0, -3.0, 1e20, 2.0**24]]).astype(np.float32)
    for value in values:
        text = literal(value)
        assert text.endswith("f")
        assert "." in text or "e" in text
        assert np.float32(text[:-1]) == value


def test_a_runtime_needs_no_jax():
    parts = ("engines", "loop", "fly", "mavlink", "trials")
    modules = ", ".join(["s5wm.deploy.firmware.flight", *(f"s5wm.deploy.runtime.{part}" for part in parts)])
    code = f"import sys, {modules}; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_selftest_passes_on_a_cortex_m(exported, tmp_path):
    if not all(map(shutil.which, ("arm-none-eabi-gcc", "qemu-system-arm"))):
        pytest.skip("needs arm-none-eabi-gcc and qemu-system-arm")
    bare, image = Path(__file__).parents[2] / "data" / "cortex-m", tmp_path / "policy.elf"
    core = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"]
    link = ["--specs=nosys.specs", "-nostartfiles", f"-T{bare / 'memory.ld'}", f"-I{exported.folder}"]
    sources = [str(bare / "main.c"), str(exported.folder / "policy.c")]
    build = ["arm-none-eabi-gcc", "-std=c99", "-O2", *core, *link, *sources, "-lm", "-o", str(image)]
    subprocess.run(build, check=True, capture_output=True)
    run = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-semihosting", "-kernel", str(image)]
    done = subprocess.run(
        run, capture_output=True, text=True, check=True, timeout=120, stdin=subprocess.DEVNULL
    )
    told = done.stdout or done.stderr  # where semihosting writes depends on the version of QEMU
    assert int(told) * 1e-9 < 1e-5


def test_the_commit_is_that_of_the_training(tmp_path):
    from s5wm.deploy.describe import _trained_at

    (tmp_path / "config.json").write_text("{}")
    assert _trained_at(tmp_path) is None
    (tmp_path / "origin.json").write_text(json.dumps({"commit": "0123abcd"}))
    assert _trained_at(tmp_path) == "0123abcd"  # a run of before: its last life alone
    lives = [{"commit": "0123abcd"}, {"commit": "4567cdef"}, {"commit": "4567cdef"}]
    (tmp_path / "origin.json").write_text(json.dumps({"lives": lives}))
    assert _trained_at(tmp_path) == "0123abcd, 4567cdef"
    assert _trained_at("pretrained/split-s") is None
