"""What a run directory is held against: its configuration, its schema, its checksums."""

import json
import random
import shutil
from pathlib import Path

import pytest

from .conftest import Command

pytestmark = pytest.mark.faults

OLD = Path(__file__).parents[1] / "data" / "schema-1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def test_a_run_of_the_schema_before_goes_on(command: Command, old: Path) -> None:
    code, said = command.run(*command.train(old, env_steps=128))
    assert code == 0, said
    assert "going on at 64 environment steps" in said
    about = json.loads((old / "checkpoints" / "000000000128" / "about.json").read_text())
    assert about["schema"] == 2


def test_a_configuration_changed_since_is_refused_with_the_difference(
    command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert command.run(*command.train(run, env_steps=64))[0] == 0
    config = run / "config.json"
    config.write_text(config.read_text().replace('"entropy": 0.001', '"entropy": 0.002'))
    code, said = command.run("resume", str(run))
    assert code == 2
    assert "was saved with another configuration (agent.entropy: 0.001 against 0.002)" in said


def test_verify_finds_a_flipped_bit_and_resume_falls_back(command: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert command.run(*command.train(run, env_steps=192))[0] == 0
    assert command.run("verify", str(run))[0] == 0
    assert command.run("verify", str(run), "--json")[1].count("whole") > 5
    files = [p for p in (run / "checkpoints" / "000000000192").rglob("*") if p.is_file() and p.stat().st_size]
    path = random.Random(0).choice(sorted(files))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    code, said = command.run("verify", str(run))
    assert code == 65
    assert "checkpoint 192  damaged" in said
    code, said = command.run(*command.train(run, env_steps=256))
    assert code == 0, said
    assert "checkpoint 192 is damaged" in said
    assert "going on at 128" in said
