"""What a run directory is held against: its configuration, its schema, its checksums."""

import json
import random
import shutil
from pathlib import Path

import pytest

from s5wm.runs.migrate import SCHEMA

from .conftest import Command

pytestmark = pytest.mark.faults

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize(
    ("schema", "saved_at"), [(1, 64), (2, 128), (5, 128)], ids=["1: PPO", "2: S5WM", "5: PPO"]
)
def test_a_run_of_a_schema_before_goes_on(
    command: Command, tmp_path: Path, schema: int, saved_at: int
) -> None:
    old = Path(shutil.copytree(DATA / f"schema-{schema}", tmp_path / "old"))
    config = old / "config.json"
    config.write_text(config.read_text().replace(f'"env_steps": {saved_at}', f'"env_steps": {2 * saved_at}'))
    code, said = command.run("resume", str(old))
    assert code == 0, said
    assert f"going on at {saved_at} environment steps" in said
    about = json.loads((old / "checkpoints" / f"{2 * saved_at:012d}" / "about.json").read_text())
    assert about["schema"] == SCHEMA


def test_a_configuration_changed_since_is_refused_with_the_difference(
    command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert command.run(*command.train(run, env_steps=64))[0] == 0
    config = run / "config.json"
    config.write_text(config.read_text().replace('"clip": 0.2', '"clip": 0.3'))
    code, said = command.run("resume", str(run))
    assert code == 2
    assert "was saved with another configuration (agent.clip: 0.2 against 0.3)" in said


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
