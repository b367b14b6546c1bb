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
    rows = [
        row
        for name, told in _TOLD.items()
        if name in found["results"]
        for row in told(found["results"][name])
    ]
    commits = ", ".join(dict.fromkeys(part["commit"] for part in found["results"].values()))
    note = f"\n{found['device']}, {found['cpus']} core(s), shared with other work; commits {commits}.\n"
    return _table(("test", "found"), rows) + note


def _kills(r: dict[str, Any]) -> list[Row]:
    same = "the same" if r["same_metrics"] and r["same_policy"] else "NOT the same"
    return [
        ("SIGKILLs survived", f"{r['survived']} of {r['kills']}, {r['while_saving']} while saving"),
        ("metrics and policy after them, against a run never killed", same),
    ]


def _flips(r: dict[str, Any]) -> list[Row]:
    return [("bits flipped and found", f"{r['found']} of {r['flips']}")]


def _refusals(r: dict[str, Any]) -> list[Row]:
    times = f"{r['seconds_median']:.1f} s of the processor (longest {r['seconds_max']:.1f} s)"
    return [("bad configurations refused", f"{r['refused']} of {r['configurations']}, in {times}")]


def _saves(r: dict[str, Any]) -> list[Row]:
    what = f"written per save of a {r['array_mb']:.0f} MB array, {r['changed_mb_per_save']:.1f} MB changed"
    return [(what, f"{r['written_mb_median']:.1f} MB (median of {r['saves']} saves)")]


def _saving(r: dict[str, Any]) -> list[Row]:
    return [
        (f"saving at the default interval (`{r['preset']}`)", f"{r['percent']:.2f} % of the training time")
    ]


def _soak(r: dict[str, Any]) -> list[Row]:
    files = f"{r['open_files'][0]} to {r['open_files'][1]} open files"
    grown = f"{r['mb_per_minute']:+.2f} MB/min, {r['recompilations']} recompilations, {files}"
    verdict = "" if r["holds"] else "; **not met**: less than 1 MB/min is asked"
    return [(f"soak of {r['minutes']:.0f} minutes, {r['chunks']} chunks", grown + verdict)]


_TOLD: dict[str, Callable[[dict[str, Any]], list[Row]]] = {
    "kills": _kills,
    "flips": _flips,
    "refusals": _refusals,
    "incremental": _saves,
    "saving": _saving,
    "soak": _soak,
}


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
