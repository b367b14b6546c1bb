"""Checks of a Gymnasium environment."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from s5wm.checkenv.seen import EVAL_STEPS, Seen
from s5wm.envs.adapters.instance import METRICS, SUCCESS, episode_metrics
from s5wm.types import RESERVED_METRICS, without_reserved

REPEATED = 20
"""Steps that are taken twice from one seed."""

Report = Callable[[str], None]


def check_gym(env: Any, steps: int, report: Report, seen: Seen) -> Iterator[str]:
    """Every problem found in ``steps`` random steps, each once; in more where none of them ended an episode."""
    missing = [n for n in ("observation_space", "action_space", "reset", "step") if not hasattr(env, n)]
    yield from (f"it has no {name}" for name in missing)
    if missing:
        return
    reported: set[str] = set()
    for problem in _problems(env, steps, report, seen):
        if problem not in reported:
            reported.add(problem)
            yield problem


def check_close(env: Any, report: Report) -> Iterator[str]:
    """Close the environment, where it can be closed."""
    if not hasattr(env, "close"):
        return
    report("close")
    try:
        env.close()
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is reported
        traceback.print_exc()
        yield f"close raised {error!r}"


def _problems(env: Any, steps: int, report: Report, seen: Seen) -> Iterator[str]:
    seen.renders = "rgb_array" in ((getattr(env, "metadata", None) or {}).get("render_modes") or ())
    env.action_space.seed(0)
    yield from _check_reset(env, report)
    report("reset")
    env.reset(seed=0)
    taken = begun = 0
    while taken < steps or (not seen.lengths and seen.limit is None and taken < EVAL_STEPS):
        report("step")
        row = env.step(env.action_space.sample())
        if not isinstance(row, tuple) or len(row) != 5:
            yield "step does not return (observation, reward, terminated, truncated, info)"
            return
        taken += 1
        yield from _check_row(env, row, seen)
        if row[2] or row[3]:
            seen.lengths.append(taken - begun)
            begun = taken
            yield from _check_metrics(row[4], seen)
            report("reset")
            env.reset()
    if not seen.lengths and seen.limit is None:
        yield seen.endless(taken, "gymnasium.wrappers.TimeLimit")
    yield from _check_repeats(env, report)


def _check_reset(env: Any, report: Report) -> Iterator[str]:
    report("reset")
    first = env.reset(seed=3)
    if not isinstance(first, tuple) or len(first) != 2 or not isinstance(first[1], dict):
        yield "reset does not return (observation, info)"
        return
    yield from observed(first[0], env.observation_space, "the observation of reset")
    report("reset")
    if not same(first[0], env.reset(seed=3)[0]):
        yield "two resets with one seed give different observations"


def _check_row(env: Any, row: tuple[Any, ...], seen: Seen) -> Iterator[str]:
    obs, reward, terminated, truncated, info = row
    yield from observed(obs, env.observation_space, "an observation of step")
    if not isinstance(reward, int | float | np.integer | np.floating):
        yield f"a reward is {type(reward).__name__}, not a number"
    elif not np.isfinite(reward):
        yield "a reward is not finite"
    else:
        seen.rewards.append(float(reward))
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, bool | np.bool_):
            yield f"{name} is {type(flag).__name__}, not bool"
    if not isinstance(info, dict):
        yield f"info is {type(info).__name__}, not dict"


def _check_metrics(info: Any, seen: Seen) -> Iterator[str]:
    """What the end of an episode reports of it."""
    if not isinstance(info, Mapping):
        return
    named = info.get(METRICS, {})
    if not isinstance(named, Mapping):
        yield f"info[{METRICS!r}] is {type(named).__name__}, not a dictionary of named numbers"
        return
    given = {f"info[{METRICS!r}][{name!r}]": value for name, value in named.items()}
    given |= {f"info[{name!r}]": info[name] for name in SUCCESS if name in info}
    wrong = {place: value for place, value in given.items() if not _is_number(value)}
    yield from (f"{place} is {_in_words(value)}, not a number" for place, value in wrong.items())
    yield from (
        f"info[{METRICS!r}][{name!r}] has a name of s5wm's own numbers, and is left out: name it otherwise"
        for name in sorted(RESERVED_METRICS & named.keys())
    )
    if not wrong:
        seen.reported.update(dict.fromkeys(without_reserved(episode_metrics(info))))


def _is_number(value: Any) -> bool:
    array = np.asarray(value)
    return array.ndim == 0 and array.dtype.kind in "biuf"


def _in_words(value: Any) -> str:
    shape = np.shape(value) if isinstance(value, np.ndarray) else ()
    return f"an array of shape {shape}" if shape else type(value).__name__


def _check_repeats(env: Any, report: Report) -> Iterator[str]:
    trajectories: list[list[Any]] = []
    for _ in range(2):
        report("reset")
        trajectory = [env.reset(seed=7)[0]]
        env.action_space.seed(7)
        for _ in range(REPEATED):
            report("step")
            obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            trajectory += [obs, np.asarray(reward)]
            if terminated or truncated:
                break
        trajectories.append(trajectory)
    if len(trajectories[0]) != len(trajectories[1]) or not all(map(same, *trajectories)):
        yield "the same seed and actions give different trajectories: it is not deterministic"


def observed(obs: Any, space: Any, what: str) -> Iterator[str]:
    """How an observation breaks its space."""
    if hasattr(space, "spaces") and isinstance(obs, dict | tuple | list):
        yield from _parts_observed(obs, space.spaces, what)
        return
    array = np.asarray(obs)
    if space.shape is not None and array.shape != tuple(space.shape):
        yield f"{what} has shape {array.shape}, its space {tuple(space.shape)}"
    elif space.dtype is not None and array.dtype != space.dtype:
        yield f"{what} is {array.dtype}, its space {space.dtype}"
    elif np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
        yield f"{what} is not finite"
    elif not space.contains(obs):
        yield f"{what} lies outside its space"


def _parts_observed(obs: Any, spaces: Any, what: str) -> Iterator[str]:
    """The same of a ``Dict`` or a ``Tuple``."""
    named, known = (_by_name(parts) for parts in (obs, spaces))
    if odd := sorted(map(str, named.keys() ^ known.keys())):
        yield f"{what} has other {'keys' if isinstance(obs, dict) else 'parts'} than its space: {', '.join(odd)}"
    for name in named.keys() & known.keys():
        yield from observed(named[name], known[name], f"{what}, {name},")


def _by_name(parts: Any) -> dict[Any, Any]:
    return dict(parts) if isinstance(parts, Mapping) else dict(enumerate(parts))


def same(left: Any, right: Any) -> bool:
    """Whether two observations are bitwise equal."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[n], right[n]) for n in left)
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return np.array_equal(np.asarray(left), np.asarray(right))
