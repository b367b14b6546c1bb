"""The figures on README and docs are those of the committed results."""

import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from s5wm.cli import VERBS, main

ROOT = Path(__file__).parents[2]
PAGES = [
    *("README.md", "CONTRIBUTING.md", "examples/README.md"),
    *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")),
]


def test_tables_agree_with_the_results() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/tables.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def program_of(page: str) -> str:
    """The first program in Python of a page."""
    found = re.search(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_the_program_of_the_first_flight_flies_three_laps() -> None:
    names: dict[str, Any] = {}
    exec(program_of("docs/first-flight.md"), names)  # noqa: S102 - what a reader would run
    assert float(names["env"].episode_metrics(names["flight"])["laps"]) >= 3


SMALL = """agent="ppo", env_steps=64, run="run", overrides=[
    "train.num_envs=4", "train.rollout_length=8", "train.iterations_per_chunk=2", "train.eval_episodes=1",
    "agent.units=4", "agent.layers=1", "agent.epochs=1", "agent.minibatches=2"]"""


@pytest.mark.slow
def test_the_program_of_the_readme_trains_and_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of("README.md")
    assert "minutes=5" in program
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(program.replace("minutes=5", SMALL), names)  # noqa: S102 - what a reader would run
    assert names["done"] and names["run"].evaluation is not None


def test_messages_that_troubleshooting_explains_are_messages_of_ours() -> None:
    source = "".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    named = re.findall(r"^### `(.+)`$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert len(named) >= 15
    parts = [part.strip() for message in named for part in message.split("...")]
    assert [part for part in parts if part not in source] == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    named = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(file.name for file in (ROOT / "docs").glob("*.md"))


def test_the_site_loads_nothing_from_elsewhere() -> None:
    settings = (ROOT / "mkdocs.yml").read_text()
    assert "://" not in settings and "font: false" in settings


def test_broken_links_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<h1 id="top"></h1><a href="#top"></a><a href="#no"></a><a href="gone/"></a><a href="https://x.org"></a>'
        '<script src="https://x.org/a.js"></script>'
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/check_site.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[:-1] == [
        "index.html loads https://x.org/a.js",
        "index.html links to #no, which has no such anchor",
        "index.html links to gone/, which is not there",
    ]


@pytest.mark.parametrize("page", PAGES)
def test_local_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def commands_of(page: str) -> list[str]:
    """What a page tells to type: ``s5wm VERB ...``, in blocks and in sentences, without comments."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    fences = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
    blocks = "\n".join(block for language, block in fences.findall(text) if language in ("", "bash"))
    typed = re.findall(r"^(?:.*&& |srun )?(?:\S+/)?s5wm ([a-z][^#&>\n]*)", blocks, re.MULTILINE)
    said = re.findall(r"`s5wm\s([a-z][^`]*)`", re.sub(r"^#.*$", "", fences.sub("", text), flags=re.MULTILINE))
    return [*typed, *said]


@cache
def options_of(verb: str) -> set[str]:
    """Of ``verb --help``; the second word of ``bench host`` is an argument."""
    shown = io.StringIO()
    with redirect_stdout(shown), pytest.raises(SystemExit):
        main([verb, "--help"])
    return set(re.findall(r"--[a-z][a-z-]*", shown.getvalue()))


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_a_page_have_the_verbs_and_options_that_it_names(page: str) -> None:
    wrong = [
        f"s5wm {command}"
        for command in commands_of(page)
        if (verb := command.split()[0]) not in VERBS
        or not set(re.findall(r"(?<!\S)--[a-z][a-z-]*", command)) <= options_of(verb)
    ]
    assert wrong == []
    assert page not in ("README.md", "docs/deploy.md") or len(commands_of(page)) >= 4


NAMED_FILE = re.compile(r"`((?:benchmarks|docs|examples|results|src|tests|tools)/[\w./*-]+|s5wm/[\w./]+)`")


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    named = {name for name in NAMED_FILE.findall((ROOT / page).read_text()) if "NAME" not in name}
    gone = [name for name in sorted(named) if not any(any(top.glob(name)) for top in (ROOT, ROOT / "src"))]
    assert gone == []
