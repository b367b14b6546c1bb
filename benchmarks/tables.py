"""Writes the tables of README.md and of seven pages of docs/ from the committed results, between their markers:

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

from checkout import ROOT
from mastery import mastery, spacing

from s5wm.evaluation.estimates import estimate

PAGES = {
    ROOT / "README.md": ["summary"],
    ROOT / "docs/results.md": [
        "headline",
        "learning",
        "updates",
        "official",
        "arithmetic",
        "starts",
        "speed",
    ],
    ROOT / "docs/speed.md": ["ratios"],
    ROOT / "docs/vision.md": ["vision"],
    ROOT / "docs/your-environment.md": ["environments", "control"],
    ROOT / "docs/reliability.md": ["reliability"],
    ROOT / "docs/plots.md": ["viewer"],
    ROOT / "docs/deploy.md": ["transfer", "students", "deploy", "punctual", "robustness"],
}
CAMERA = "race/figure-8"
TASKS = ("race/split-s", "race/figure-8-state", CAMERA)
AGENTS = ("s5wm", "dreamerv3", "ppo", "s5wm-p", "dreamerv3-p", "ppo-asymmetric")
SETTINGS = ("", "sum of returns", "many steps")
"""Of a training: those of the preset, of the preset of before, and of examples/trainings/split-s-many-steps.json."""
MARKED = re.compile(r"(<!-- table:(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Row = tuple[str, ...]


def summary() -> str:
    """The races from states, in a few figures: of each agent the preset's settings, others where it has no such row."""
    head = ("task", "agent", "success (seeds)", "lap (bound)", "90 % after")
    results = _trainings()
    rows: dict[tuple[str, str], Row] = {}
    for task in TASKS:
        for called, seeds in _by_agent(results, task):
            if task != CAMERA:
                _, count, success, lap, _, steps, minutes, _ = _headline_row("", seeds, None)
                row = (f"`{task}`", called, f"{success} ({count})", lap, f"{steps} steps, {minutes} min")
                rows.setdefault((task, seeds[0]["name"]["agent"]), row)
    shown = [r for r in results if r["name"]["task"] in TASKS and r["name"]["task"] != CAMERA]
    shown = [r for r in shown if _called(r) in {row[1] for row in rows.values()}]
    return _table(head, list(rows.values())) + f"\n{_spacings(shown)}\n"


def headline() -> str:
    """The same with a note for every training that has one."""
    lines, results = _headline()
    return lines + _differences(results) + _commits(results) + _notes(results)


def _headline() -> tuple[str, list[dict[str, Any]]]:
    head = (
        "task, agent",
        "seeds",
        "success",
        "lap (bound)",
        "above bound",
        "steps to 90 %",
        "minutes to 90 %",
        "world model / actor-critic / whole update",
    )
    results = _trainings()
    rows: list[Row] = []
    shown: list[dict[str, Any]] = []
    for task in TASKS:
        timed = _preset_update("cpu", images=task == CAMERA)
        for agent, seeds in _by_agent(results, task):
            rows.append(_headline_row(f"`{task}`, {agent}", seeds, _timed_alike(timed, seeds[0])))
            shown += seeds
    note = (
        "\nSize `cpu`, trained on one CPU core where no note says two; an update timed by itself on two. Success is "
        "the mean over the seeds, other figures their inter-quartile mean; brackets hold their range. Success and "
        "laps: 100 flights of the best policy that training met. 90 %: the first evaluation of 32 flights at least so "
        "good. Minutes are those of training alone: compiling, evaluating and saving come on top.\n"
        f"\n{_spacings(shown)}\n"
    )
    if any("compared" not in result for result in shown):
        note += (
            "\nTrainings from commit 7758b8a on ended by comparing their best policy with their latest one. In these "
            "records that was on the same 100 flights that are reported, which favours them a little; since then other "
            "flights choose.\n"
        )
    return _table(head, rows) + note, shown


def _spacings(results: list[dict[str, Any]]) -> str:
    """How far apart evaluations are, between which 90 % was reached at an unknown step."""
    found: dict[str, list[str]] = {}
    for result in results:
        steps = spacing(result["curve"])
        if steps is not None:
            found.setdefault(f"{steps / 1e6:.2g} M", []).append(_called(result))
    parts = [f"{steps} steps ({', '.join(dict.fromkeys(agents))})" for steps, agents in found.items()]
    return (
        f"90 % was reached at an unknown step since the evaluation before. Evaluations came every {'; '.join(parts)}. "
        "<= marks where the first evaluation of all was already so good."
    )


def _differences(results: list[dict[str, Any]]) -> str:
    """What differs in the configurations of seeds that share a row, but for seed and budget."""
    rows: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for result in results:
        rows.setdefault(_sort_of(result), []).append(_flat(result["config"]))
    lines: list[str] = []
    for (task, agent, _, settings), configs in rows.items():
        names = dict.fromkeys(name for config in configs for name in config)
        differ = [name for name in names if len({config.get(name) for config in configs}) > 1]
        if differ:
            called = f"`{task}`, `{agent}`" + (f", {settings}" if settings else "")
            lines.append(f"{called}: {', '.join(f'`{name}`' for name in differ)}")
    if not lines:
        return ""
    return (
        "\nConfigurations of the seeds of one row that differ, or have an option that others lack: "
        f"{'; '.join(lines)}. (Image encoders are not used by tasks without images.)\n"
    )


def _flat(config: Any, path: str = "") -> dict[str, str]:
    """Values by dotted name, without the seed and the budget."""
    if not isinstance(config, dict):
        return {} if path in ("seed", "train.env_steps", "train.minutes") else {path: json.dumps(config)}
    parts = [_flat(value, f"{path}.{key}" if path else key) for key, value in config.items()]
    return {name: value for part in parts for name, value in part.items()}


def _commits(results: list[dict[str, Any]]) -> str:
    """By which commits the rows were trained, where they are several."""
    commits: dict[str, list[str]] = {}
    for result in results:
        known = dict.fromkeys(life.get("commit") or "not noted" for life in _lives(result))
        title = f"`{result['name']['task']}`, {_called(result)}"
        commits.setdefault(", then ".join(known), []).append(title)
    if len(commits) < 2:
        return ""
    texts = [f"{commit} ({'; '.join(dict.fromkeys(titles))})" for commit, titles in commits.items()]
    return f"\nRows are of trainings by several commits: {', '.join(texts)}.\n"


def _lives(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Where it began and went on; older records hold one of them."""
    return result.get("lives") or [result["training"]]


def _by_agent(results: list[dict[str, Any]], task: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Seeds of each agent of size ``cpu`` with each of its settings, and what the tables call it."""
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for agent in AGENTS:
        for settings in SETTINGS:
            wanted = (task, agent, "cpu", settings)
            seeds = [r for r in results if _sort_of(r) == wanted]
            if seeds:
                found.append((_called(seeds[0]), seeds))
    return found


def _timed_alike(timed: dict[str, Any], result: dict[str, Any]) -> dict[str, Any] | None:
    """Timings of an update of this agent, if it was trained with such batches and imagined flights."""
    own, config = timed.get(result["name"]["agent"]), result["config"]["agent"]
    learning, replay = config.get("actor_critic", {}), config.get("replay", {})
    # Older records have the option by its name of before.
    starts = learning.get("num_imagination_starts", learning.get("starts"))
    trained = (starts, learning.get("imagination_horizon"), replay.get("batch"), replay.get("length"))
    return (
        own if own and (own["starts"], own.get("horizon"), own["batch"], own["length"]) == trained else None
    )


def _sort_of(result: dict[str, Any]) -> tuple[str, str, str, str]:
    name = result["name"]
    return name["task"], name["agent"], name["size"], result.get("settings", "")


def _called(result: dict[str, Any]) -> str:
    settings = result.get("settings")
    return f"`{result['name']['agent']}`" + (f", {settings}" if settings else "")


def _headline_row(name: str, seeds: list[dict[str, Any]], timed: dict[str, Any] | None) -> Row:
    flown = [result["evaluation"] for result in seeds]
    mastered = [own for result in seeds if (own := mastery(result["curve"])) is not None]
    bounds = [own.is_bound for own in mastered]
    steps = [own.first["env_steps"] / 1e6 for own in mastered]
    missing = len(seeds) - len(mastered)
    never = f" ({missing} of {len(seeds)} never)" if missing else ""
    laps = [own["lap_time_mean"] for own in flown if own.get("lap_time_mean")]
    above = [own["above_bound_percent"] for own in flown if own.get("above_bound_percent") is not None]
    of = f", {len(laps)} of {len(seeds)} seeds" if len(laps) < len(seeds) else ""
    bound = flown[0]["bound_s"]
    parts = ("world_model", "actor_critic", "update")
    return (
        name,
        str(len(seeds)),
        _mean([own["success_rate"] for own in flown], "{:.0%}"),
        f"{_spread(laps, '{:.2f}')} s ({bound:.2f} s{of})" if laps else "none",
        f"{_spread(above, '{:.0f}')} %" if above else "",
        f"{_spread(steps, '{:.2f}' if min(steps) < 1.0 else '{:.1f}', bounds)} M{never}"
        if steps
        else "never",
        _spread([own.first["minutes"] for own in mastered], "{:.0f}", bounds) if mastered else "never",
        " / ".join(f"{timed[f'{part}_ms']:.1f}" for part in parts) + " ms" if timed else "",
    )


def _mean(values: list[float], form: str) -> str:
    """Of rates that are nought or one: an inter-quartile mean would hide a seed that never arrives."""
    return _between(sum(values) / len(values), values, form)


def _spread(values: list[float], form: str, bounds: list[bool] | None = None) -> str:
    return _between(estimate(values).value, values, form, bounds)


def _between(middle: float, values: list[float], form: str, bounds: list[bool] | None = None) -> str:
    """With the lowest and highest; those that may be less, as values in ``bounds`` may, after <=."""
    bounds = bounds or [False] * len(values)
    highest = [is_bound for value, is_bound in zip(values, bounds, strict=True) if value == max(values)]
    value, low, high = (form.format(x) for x in (middle, min(values), max(values)))
    value, low = (f"<= {text}" if any(bounds) else text for text in (value, low))
    high = f"<= {high}" if all(highest) else high
    return value if low == high else f"{value} [{low}, {high}]"


def _preset_update(size: str, *, images: bool) -> dict[str, Any]:
    """Timings of one size as its preset has it."""
    timed = json.loads((ROOT / "results/update/cpu.json").read_text())["results"]
    found = (r for r in timed if r["size"] == size and (r["task"] == CAMERA) == images)
    first = next(found, None)
    if first is None:
        return {}
    shape = {"batch": first["batch"], "length": first["length"]}
    return {name: shape | own for name, own in first["agents"].items()}


def _trainings() -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted((ROOT / "results/learning").glob("*.json"))]


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
    results = _trainings()
    return _table(head, [_learned(result) for result in results]) + _notes(results)


def vision() -> str:
    """One line per recorded training on images; gates tell agents apart that fly no laps."""
    results = [result for result in _trainings() if result["name"]["task"] == CAMERA]
    head = ("agent", "gates per flight", "success", "lap (bound)", "above bound", "90 % after", "trained for")
    rows: list[Row] = []
    for result in results:
        name, (_, success, lap, above, mastered, _, trained, _) = result["name"], _learned(result)
        agent = f"`{name['agent']}` {name['size']}, seed {result['training_seed']}"
        rows.append(
            (agent, f"{result['evaluation']['gates_mean']:.1f}", success, lap, above, mastered, trained)
        )
    return _table(head, rows) + _notes(results)


SOLVED = {
    "gymnasium:CartPole-v1": "475",
    "gymnasium:Pendulum-v1": "-200",
    "gymnax:CartPole-v1": "475",
    "brax:inverted_pendulum": "(1000 is the most)",
}
"""Returns from which an environment counts as solved."""


def environments() -> str:
    """One line per recorded training on an environment of others."""
    head = (
        "environment",
        "agent",
        "environment steps",
        "minutes",
        "return, best policy",
        "return, latest policy",
        "solved from",
    )
    files = [
        file
        for name in ("gymnasium", "gymnax", "brax")
        for file in sorted((ROOT / "results" / name).glob("*.json"))
    ]
    found = sorted(map(_read, files), key=lambda result: list(SOLVED).index(result["name"]["task"]))
    rows: list[Row] = []
    for result in found:
        name, trained = result["name"], result["trained"]
        arguments = "".join(f" {each}" for each in result["config"]["task"].get("args", []))
        best, latest = (f"{result[key]['return_nominal']:.0f}" for key in ("evaluation", "evaluation_latest"))
        budget = (f"{trained['env_steps']:,}", f"{trained['minutes']:.0f}")
        titles = (f"`{name['task']}`{arguments}", f"{_called(result)}, seed {result['training_seed']}")
        rows.append((*titles, *budget, best, latest, SOLVED[name["task"]]))
    return _table(head, rows)


def control() -> str:
    """Tasks of the DeepMind Control suite beside published returns at as many frames."""
    head = (
        "task",
        "agent",
        "seeds",
        "frames",
        "minutes",
        "return, latest policy",
        "published: DreamerV3",
        "MR.Q",
        "DR.Q",
    )
    known = _read(ROOT / "results/dmc/published.json")
    published, at = known["tasks"], known["at_env_steps"]
    results = [_read(file) for file in sorted((ROOT / "results/dmc").glob("*-*.json"))]
    rows: list[Row] = []
    for task, theirs in published.items():
        for agent in ("s5wm", "dreamerv3"):
            seeds = [
                r
                for r in results
                if r["name"]["agent"] == agent and f"task={task}" in r["config"]["task"]["args"]
            ]
            if seeds:
                rows.append(
                    (
                        f"`{task}`",
                        f"`{agent}`",
                        *_controlled(seeds, at),
                        *(
                            f"{own['mean']:.0f} [{own['min']:.0f}, {own['max']:.0f}]"
                            for own in theirs.values()
                        ),
                    )
                )
    return _table(head, rows) if rows else "Not measured yet.\n"


FRAMES_BEYOND = 0.1
"""Share by which the frames of a training may differ from those of the published returns: it ends with a chunk."""


def _controlled(seeds: list[dict[str, Any]], at: int) -> Row:
    frames = {2 * result["trained"]["env_steps"] for result in seeds}  # every action is held for two
    if any(abs(own / at - 1.0) > FRAMES_BEYOND for own in frames):
        raise SystemExit(f"trained for {sorted(frames)} frames, and the published returns are those at {at}")
    minutes = [result["trained"]["minutes"] for result in seeds]
    returns = [result["evaluation_latest"]["return_nominal"] for result in seeds]
    return (
        str(len(seeds)),
        " to ".join(f"{own:,}" for own in sorted({min(frames), max(frames)})),
        _mean(minutes, "{:.0f}"),
        _mean(returns, "{:.0f}"),
    )


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def _notes(results: list[dict[str, Any]]) -> str:
    """What a reader must know of these trainings."""
    noted: dict[str, dict[str, list[int]]] = {}
    for result in results:
        if result["note"]:
            seeds = noted.setdefault(result["note"], {}).setdefault(_settings(result), [])
            seeds.append(result["training_seed"])
    return "".join(
        f"\n{'; '.join(f'{title}, {_seeds(seeds)}' for title, seeds in titles.items())}: {note}\n"
        for note, titles in noted.items()
    )


def _seeds(numbers: list[int]) -> str:
    return f"seed{'s' if len(numbers) > 1 else ''} {', '.join(map(str, sorted(numbers)))}"


def _settings(result: dict[str, Any]) -> str:
    name = result["name"]
    return f"`{name['task']}`, {_called(result)}, {name['size']}"


def _title(result: dict[str, Any]) -> str:
    return f"{_settings(result)}, seed {result['training_seed']}"


def _learned(result: dict[str, Any]) -> Row:
    figures, mastered = result["evaluation"], mastery(result["curve"])
    lap, above = figures.get("lap_time_mean"), figures.get("above_bound_percent")
    return (
        _title(result),
        f"{figures['success_rate']:.0%} of {figures['episodes']}",
        "" if lap is None else f"{lap:.2f} s ({figures['bound_s']:.2f} s)",
        "" if above is None else f"{above:.1f} %",
        "never" if mastered is None else "<= " * mastered.is_bound + _budget(mastered.first),
        f"{mastered.good_later} of {mastered.later}" if mastered and mastered.later else "",
        _budget(result["trained"]) + ("" if result["finished"] else ", then stopped"),
        ", then ".join(dict.fromkeys(str(life["cpus"]) for life in _lives(result))),
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
    return _table(("task", "environments", "steps/s"), rows) + note


def starts() -> str:
    """Seconds of the processor before anything happens."""
    timed = json.loads((ROOT / "results/startup/cpu.json").read_text())
    caches = ("none", "off", "empty", "filled")
    found = {(r["command"], r["cache"]): r["cpu_s"] for r in timed["results"]}
    rows = []
    for command in dict.fromkeys(r["command"] for r in timed["results"]):
        known = [found.get((command, cache)) for cache in caches]
        light, off, empty, full = ["" if value is None else f"{value:.2f}" for value in known]
        rows.append(
            (f"`{command}`".replace(", one iteration`", "`, one iteration"), light or off, empty, full)
        )
    samples = [len(r["samples"]) for r in timed["results"]]
    note = (
        f"\nSeconds of CPU, medians of {max(samples)} (what compiles: {min(samples)}). {timed['device']}, "
        f"{timed['cpus']} core(s), commit {timed['commit']}; installed: {', '.join(timed['installed'])}.\n"
    )
    return _table(("command", "without a cache", "first start", "second start"), rows) + note


def viewer() -> str:
    """A frame of the page in the browser."""
    found = _read(ROOT / "results/viewer/cpu.json")
    frame = found["frame_ms"]
    row = (
        f"`{found['policy']}`, {found['page_mb']:.1f} MB",
        f"{frame['p50']:.1f} ms",
        f"{frame['p95']:.1f} ms",
    )
    note = (
        f"\n{found['device']}, {found['cpus']} core(s), load average {found['load'][0]:.0f} while it ran, "
        f"{found['browser']}, commit {found['commit']}.\n"
    )
    return _table(("page", "a frame, median", "95 % of the frames below"), [row]) + note


def updates() -> str:
    """Milliseconds per gradient update and its parts, DreamerV3's divided by S5WM's."""
    head = (
        "device",
        "observations",
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
            shape = (
                timed["platform"],
                _images(result),
                result["size"],
                f"{result['batch']} x {result['length']}",
            )
            for name, own in result["agents"].items():
                times = (_faster(own, part) for part in ("world_model", "actor_critic", "update"))
                rows.append((*shape, f"`{name}`", f"{own['params'] / 1e6:.3f} M", *times))
    return _table(head, rows) + "".join(notes)


def ratios() -> str:
    """How many times as fast S5WM is as our own DreamerV3, of each size as its preset has it."""
    timed = _read(ROOT / "results/update/cpu.json")
    rows: list[Row] = []
    for result in timed["results"]:
        own = result["agents"].get("s5wm", {})
        if "speedup_update" in own:
            rows.append(
                (f"`{result['size']}`", f"{own['speedup_world_model']:.2f}", f"{own['speedup_update']:.2f}")
            )
    note = f"\n{timed['device']}, {timed['cpus']} core(s), commit {timed['commit']}.\n"
    return _table(("size", "world model, times as fast", "whole update, times as fast"), rows) + note


def official() -> str:
    """The same sizes beside DreamerV3's own code."""
    head = (
        "size",
        "agent",
        "parameters",
        "imagined from",
        "whole update",
        "danijar/dreamerv3",
    )
    timed = json.loads((ROOT / "results/update/cpu.json").read_text())
    theirs = json.loads((ROOT / "results/official/dreamerv3.json").read_text())
    shape, sizes = (theirs["batch"], theirs["length"]), theirs["sizes"]
    rows: list[Row] = []
    for result in timed["results"]:
        same = result["task"] != CAMERA and (result["batch"], result["length"]) == shape
        for name, own in result["agents"].items():
            if same and result["size"] in sizes and "update_ms" in own:
                official_ms = sizes[result["size"]]["update_ms"]
                states = f"{own['starts'] or result['batch'] * result['length']} states"
                row = (result["size"], f"`{name}`", f"{own['params'] / 1e6:.2f} M", states)
                rows.append((*row, f"{own['update_ms']:.0f} ms", f"{official_ms:.0f} ms"))
    millions = ", ".join(f"{size} {own['params'] / 1e6:g} M" for size, own in sizes.items())
    here = f"{timed['device']}, {timed['cpus']} core(s)"
    note = f"\n{here}. The official code: {theirs['cpus']} cores, {theirs['starts']} states; parameters {millions}.\n"
    return _table(head, rows) + note


def _images(result: dict[str, Any]) -> str:
    return "images" if result["task"] == CAMERA else "vectors"


def reliability() -> str:
    """Figures of the last fault tests."""
    found = json.loads((ROOT / "results/faults/cpu.json").read_text())
    rows = [
        row
        for name, describe in _DESCRIBE.items()
        if name in found["results"]
        for row in describe(found["results"][name])
    ]
    # Older files hold the machine once, for all parts.
    parts = {name: found | part for name, part in found["results"].items()}
    titles: dict[str, list[str]] = {}
    for name, part in parts.items():
        machine = f"{part['device']}, {part['cpus']} core(s), commit {part['commit']}"
        titles.setdefault(machine, []).append(name)
    notes = [f"{machine} ({', '.join(names)})" for machine, names in titles.items()]
    return _table(("test", "found"), rows) + f"\nShared with other work: {'; '.join(notes)}.\n"


def deploy() -> str:
    """Exported policies: accuracy, size, time."""
    found = json.loads((ROOT / "results/deploy/cpu.json").read_text())
    head = ("policy", "parameters", "error of ONNX / C", "C step p50 / p99", "code and weights, Cortex-M7")
    rows: list[Row] = []
    for r in found["results"]:
        errors, step = r["errors"], r["c_step"]
        rows.append(
            (
                f"`{r['policy']}`",
                f"{r['parameters']:,}",
                f"{errors['onnx']['flown']:.1e} / {errors['c']['flown']:.1e}",
                f"{step['p50_us']:.0f} / {step['p99_us']:.0f} us",
                f"{r['size_cortex_m7']['code_and_weights'] / 1e3:.0f} kB"
                if r["size_cortex_m7"]
                else "not measured",
            )
        )
    note = "\nErrors: largest difference of an action from JAX along a flight.  One core, shared with other work: "
    return _table(head, rows) + f"{note}{found['device']}, commit {found['commit']}.\n"


STATE_POLICIES = ("split-s", "split-s-robust", "figure-8-state", "figure-8-state-robust")
"""Shipped ones that fly from states."""

PHYSICS = ("sim", "betaflight", "rotorpy", "crazyflow")


def transfer() -> str:
    """The same exported files in other physics and behind real firmware; one row per file that is there."""
    head = (
        "policy",
        "flown in",
        "three laps without a crash (95 % interval)",
        "lap, mean and sd",
        "against ours",
    )
    rows: list[Row] = []
    for policy in STATE_POLICIES:
        files = [ROOT / f"results/deploy/transfer/{policy}-{target}.json" for target in PHYSICS]
        found = [json.loads(file.read_text()) for file in files if file.is_file()]
        ours = next((each["lap_mean"] for each in found if each["target"] == "sim"), None)
        rows += [_transfer_row(policy, each, ours) for each in found]
    return _table(head, rows)


def _transfer_row(policy: str, found: dict[str, Any], ours: float | None) -> Row:
    low, high = (f"{share:.0%}" for share in found["success_interval"])
    names = {"sim": "our simulator (NumPy)", "betaflight": f"our rigid body, {found['version']}"}
    lap, change = "none", ""
    if found["lap_mean"] is not None:
        lap = f"{found['lap_mean']:.3f} s, {found['lap_sd']:.3f} s"
        change = f"{found['lap_mean'] / ours - 1.0:+.1%}" if ours and found["target"] != "sim" else ""
    flights = f"{found['successes']} of {found['flights']} ({low} to {high})"
    return f"`{policy}`", names.get(found["target"], found["version"]), flights, lap, change


def students() -> str:
    """Students without memory beside the policies that they imitate; one row per file that is there."""
    head = (
        "policy",
        "network",
        "parameters",
        "action differs by",
        "success of policy / student",
        "lap",
        "in the runtime",
    )
    rows: list[Row] = []
    for policy in STATE_POLICIES:
        file = ROOT / f"results/deploy/students/{policy}.json"
        if file.is_file():
            rows.append(_student_row(json.loads(file.read_text())))
    return _table(head, rows) if rows else "Not measured yet.\n"


def _student_row(found: dict[str, Any]) -> Row:
    imitation, flown = found["imitation"], found["runtime"]
    teacher, student = imitation["teacher"], imitation["student"]
    laps = " / ".join(
        "none" if each["lap_time_mean"] is None else f"{each['lap_time_mean']:.3f} s"
        for each in (teacher, student)
    )
    return (
        f"`{found['policy']}`",
        f"{imitation['layers']} x {imitation['units']}",
        f"{found['parameters']:,}",
        f"{imitation['error']:.3f} (rms)",
        f"{teacher['success_rate']:.0%} / {student['success_rate']:.0%} of {imitation['episodes']}",
        laps,
        f"{flown['successes']} of {flown['flights']}",
    )


def punctual() -> str:
    """The loop at a fixed rate beside a busy core."""
    found = json.loads((ROOT / "results/deploy/punctual.json").read_text())
    head = (
        "rate",
        "latency p50 / p99",
        "later than 2 ms, or skipped",
        "of them only for a pause of the core",
        "left to the runtime",
    )
    latency, missed = found["latency_ms"], found["deadline_misses"] + found["periods_skipped"]
    excused, left = str(found.get("misses_excused")), str(found.get("misses_of_the_runtime"))
    note = ""
    if "misses_excused" not in found:  # an older file excused every overlap and counted no skipped period
        overlapping, skipped = found["misses_in_pauses_of_the_core"], found["periods_skipped"]
        excused, left = "not recorded", f"at least {missed - overlapping - skipped}"
        note = (
            f" {overlapping} of the late periods overlapped a pause of the core of any length, {skipped} were skipped; "
            "how much of their delay a pause explains was not recorded then."
        )
    row = (
        f"{found['rate_hz']:g} Hz, {found['seconds']:g} s",
        f"{latency['p50']:.2f} / {latency['p99']:.2f} ms",
        f"{missed} of {found['periods'] + found['periods_skipped']}",
        excused,
        left,
    )
    load = f"load average {found['load'][0]:.0f} before it began"
    return _table(head, [row]) + f"\n{found['device']}, {load}, commit {found['commit']}.{note}\n"


def robustness() -> str:
    """Success of each policy by suite, at half, full and one and a half strength."""
    names = (*STATE_POLICIES, "split-s-ppo")
    files = [ROOT / f"results/robustness/{name}.json" for name in names]
    found = {file.stem: json.loads(file.read_text()) for file in files if file.exists()}
    first = next(iter(found.values()))
    rows: list[Row] = []
    for suite, ranges in first["full_strength"].items():
        full = ", ".join(f"{key} {value:.3g}" for key, value in ranges.items())
        cells = [[cell["success_rate"] for cell in each["suites"][suite]] for each in found.values()]
        rows.append((suite, full, *(" / ".join(f"{100 * rate:.0f}" for rate in cell) for cell in cells)))
    rows.append(("none", "", *(_nominal(each["nominal"]) for each in found.values())))
    strengths = ", ".join(f"{strength:g}" for strength in first["strengths"])
    note = f"\nSuccess in percent of {first['episodes']} flights, at {strengths} times the full strength.\n"
    return _table(("suite", "at full strength", *(f"`{name}`" for name in found)), rows) + note


def _nominal(flown: dict[str, Any]) -> str:
    lap = flown["lap_time_mean"]
    return f"{100 * flown['success_rate']:.0f}" + ("" if lap is None else f" at {lap:.2f} s")


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


_DESCRIBE: dict[str, Callable[[dict[str, Any]], list[Row]]] = {
    "kills": _kills,
    "flips": _flips,
    "refusals": _refusals,
    "incremental": _saves,
    "saving": _saving,
    "soak": _soak,
}


def _faster(own: dict[str, Any], part: str) -> str:
    if f"{part}_ms" not in own:
        return ""
    ratio = own[f"speedup_{part}"]
    return f"{own[f'{part}_ms']:.1f} ms" + ("" if ratio == 1.0 else f" ({ratio:.2f}x)")


def arithmetic() -> str:
    """How near the preset's programs come to what their device can do."""
    head = (
        "device",
        "observations",
        "size",
        "agent",
        "part",
        "GFLOP",
        "least time",
        "taken",
        "share of the peak",
    )
    rows: list[Row] = []
    notes: list[str] = []
    for path in sorted((ROOT / "results/update").glob("*.json")):
        timed = json.loads(path.read_text())
        measured = [result["ceilings"] for result in timed["results"]]
        # Of the device, which other work can only lower.
        peak, copied = (max(each[name] for each in measured) for name in ("flops_per_s", "bytes_per_s"))
        for result in timed["results"]:
            if "update_ms" not in next(iter(result["agents"].values())):
                continue
            for name, own in result["agents"].items():
                for part in ("world_model", "actor_critic"):
                    work, taken = own[f"{part}_gflop"], own[f"{part}_ms"]
                    share = 1e12 * work / taken / peak
                    least = max(1e12 * work / peak, 1e12 * own[f"{part}_gbyte"] / copied)
                    texts = (
                        part.replace("_", " "),
                        f"{work:.2f}",
                        f"{least:.1f} ms",
                        f"{taken:.1f} ms",
                        f"{share:.0%}",
                    )
                    rows.append((timed["platform"], _images(result), result["size"], f"`{name}`", *texts))
        notes.append(
            f"\n{timed['device']}, {timed['cpus']} core(s): {peak / 1e9:.0f} GFLOP/s in a product "
            f"of large matrices, {copied / 1e9:.1f} GB/s in a copy, the most of {len(measured)} measurements.\n"
        )
    return _table(head, rows) + "".join(notes)


def _table(head: Row, rows: list[Row]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "summary": summary,
    "headline": headline,
    "learning": learning,
    "updates": updates,
    "viewer": viewer,
    "arithmetic": arithmetic,
    "official": official,
    "ratios": ratios,
    "speed": speed,
    "starts": starts,
    "vision": vision,
    "environments": environments,
    "control": control,
    "reliability": reliability,
    "deploy": deploy,
    "transfer": transfer,
    "students": students,
    "punctual": punctual,
    "robustness": robustness,
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
