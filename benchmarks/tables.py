"""Writes the tables of README.md and docs/results.md from the committed results, between their markers:

    python benchmarks/tables.py [--check]

``--check`` changes nothing and fails where a page and the results disagree (tests run it).
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {
    ROOT / "README.md": ["learning"],
    ROOT / "docs/results.md": ["learning", "updates", "speed"],
    ROOT / "docs/reliability.md": ["reliability"],
}
MARKED = re.compile(r"(<!-- table:(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Row = tuple[str, ...]


def learning() -> str:
    """One line per recorded training."""
    head = (
        "task, agent",
        "success",
        "lap (bound)",
        "above bound",
        "first evaluation of at least 90 %",
        "of those after it",
        "trained for",
        "cores",
    )
    results = [json.loads(p.read_text()) for p in sorted((ROOT / "results/learning").glob("*.json"))]
    noted: dict[str, list[str]] = {}
    for result in results:
        if result["note"]:
            noted.setdefault(result["note"], []).append(_title(result))
    notes = [f"\n{'; '.join(titles)}: {note}\n" for note, titles in noted.items()]
    return _table(head, [_learned(result) for result in results]) + "".join(notes)


def _title(result: dict[str, Any]) -> str:
    name = result["name"]
    return f"`{name['task']}`, `{name['agent']}` {name['size']}, seed {result['training_seed']}"


def _learned(result: dict[str, Any]) -> Row:
    figures, mastered = result["evaluation"], result["first_90_percent"]
    lap, above = figures.get("lap_time_mean"), figures.get("above_bound_percent")
    return (
        _title(result),
        f"{figures['success_rate']:.0%} of {figures['episodes']}",
        "" if lap is None else f"{lap:.2f} s ({figures['bound_s']:.2f} s)",
        "" if above is None else f"{above:.1f} %",
        "never" if mastered is None else _budget(mastered),
        ""
        if result["share_90_percent_afterwards"] is None
        else f"{result['share_90_percent_afterwards']:.0%}",
        _budget(result["trained"]) + ("" if result["finished"] else ", then stopped"),
        str(result["training"]["cpus"]),
    )


def _budget(row: dict[str, Any]) -> str:
    return f"{row['env_steps'] / 1e6:.2f} M steps, {row['minutes']:.0f} min"


def speed() -> str:
    """Environment steps per second."""
    timed = json.loads((ROOT / "results/env/cpu.json").read_text())
    rows = [
        (f"`{r['task']}`", str(r["num_envs"]), f"{r['env_steps_per_s'] / 1e3:.0f} k")
        for r in timed["results"]
    ]
    note = f"\n{timed['device']}, {timed['cpus']} core(s), commit {timed['commit']}.\n"
    return _table(("task", "copies", "steps/s"), rows) + note


def updates() -> str:
    """Milliseconds per gradient update and its parts, DreamerV3's divided by S5WM's."""
    head = (
        "device",
        "size",
        "batch x T",
        "agent",
        "parameters",
        "world model",
        "actor-critic",
        "whole update",
    )
    rows: list[Row] = []
    notes: list[str] = []
    for path in sorted((ROOT / "results/update").glob("*.json")):
        timed = json.loads(path.read_text())
        notes.append(f"\n{timed['device']}, {timed['cpus']} core(s), commit {timed['commit']}.\n")
        if any("per_call" not in own for result in timed["results"] for own in result["agents"].values()):
            raise SystemExit(f"{path} was made by an older benchmarks/update.py; run it again")
        for result in timed["results"]:
            shape = (timed["platform"], result["size"], f"{result['batch']} x {result['length']}")
            for name, own in result["agents"].items():
                times = (_faster(own, part) for part in ("world_model", "actor_critic", "update"))
                rows.append((*shape, f"`{name}`", f"{own['params'] / 1e6:.3f} M", *times))
    return _table(head, rows) + "".join(notes)


def reliability() -> str:
    """Figures of the last fault tests."""
    found = json.loads((ROOT / "results/faults/cpu.json").read_text())
    kills, flips, refused, saves, saving, soak = (
        found["results"][name] for name in ("kills", "flips", "refusals", "incremental", "saving", "soak")
    )
    same = "same" if kills["same_metrics"] and kills["same_policy"] else "NOT the same"
    rows = [
        (
            "SIGKILLs survived",
            f"{kills['survived']} of {kills['kills']}, {kills['while_saving']} while saving",
        ),
        ("after them, against a run never killed", f"{same} metrics and policy"),
        ("bits flipped and found", f"{flips['found']} of {flips['flips']}"),
        (
            "bad configurations refused",
            f"{refused['refused']} of {refused['configurations']}, in {refused['seconds_median']:.1f} s of the "
            f"processor (median; longest {refused['seconds_max']:.1f} s)",
        ),
        (
            f"written per save of a {saves['array_mb']:.0f} MB array, a hundredth changed",
            f"{saves['written_mb_median']:.1f} MB (median of {saves['saves']} saves)",
        ),
        (
            "a save, share of the training time at the default interval",
            f"{saving['percent']:.2f} % ({saving['preset']})",
        ),
        (
            f"soak of {soak['minutes']:.0f} minutes",
            f"{soak['mb_per_minute']:+.2f} MB/min, {soak['recompilations']} recompilations, "
            f"open files {soak['open_files'][0]} to {soak['open_files'][1]}, {soak['chunks']} chunks",
        ),
    ]
    note = f"\n{found['device']}, {found['cpus']} core(s), commit {soak['commit']}.\n"
    return _table(("test", "found"), rows) + note


def _faster(own: dict[str, Any], part: str) -> str:
    ratio = own[f"speedup_{part}"]
    return f"{own[f'{part}_ms']:.1f} ms" + ("" if ratio == 1.0 else f" ({ratio:.2f}x)")


def _table(head: Row, rows: list[Row]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "learning": learning,
    "updates": updates,
    "speed": speed,
    "reliability": reliability,
}


def filled(text: str, names: list[str]) -> str:
    """The page with every table made anew; ``names`` are the tables that it must have."""
    if [found[2] for found in MARKED.finditer(text)] != names:
        raise SystemExit(f"a page must have exactly the tables {names}, each between its markers")
    return MARKED.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main() -> int:
    """Rewrite or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    made = {page: filled(page.read_text(), names) for page, names in PAGES.items()}
    stale = [page for page, text in made.items() if text != page.read_text()]
    for page in stale:
        if not check:
            page.write_text(made[page])
        print(f"{'differs from results/' if check else 'written'}: {page.relative_to(ROOT)}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
