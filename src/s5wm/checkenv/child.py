"""The check of an environment in a process of its own, which may hang or die.

The child writes one JSON object per line: ``call``, what it is about to do, or ``problem``, what it found.
"""

import json
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from s5wm.errors import ConfigError

END = "end"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Result of a check."""

    problems: list[str]
    agents: dict[
        str, str
    ]  # why each cannot be trained on the environment; empty where it can, no entry where unknown


@dataclass(frozen=True, kw_only=True)
class _Try:
    report: Report
    death: str | None  # how the process died, if it did


RESTARTS = 3
"""Restarts of a process that died."""


def check_in_child(spec: str, steps: int, timeout: float, privileged: Sequence[str] = ()) -> Report:
    """Check the environment that ``spec`` names; no call of it may take more than ``timeout`` seconds.

    One whose process dies is started anew, up to three times, to see whether it always does.
    """
    tries = [_check_once(spec, steps, timeout, privileged)]
    while tries[-1].death is not None and len(tries) <= RESTARTS:
        tries.append(_check_once(spec, steps, timeout, privileged))
    last = tries[-1].report
    deaths = [each.death for each in tries if each.death is not None]
    died = [f"its process {deaths[0]}, in {len(deaths)} of {len(tries)} tries"] if deaths else []
    return Report(problems=last.problems + died, agents=last.agents)


def _check_once(spec: str, steps: int, timeout: float, privileged: Sequence[str]) -> _Try:
    command = [sys.executable, "-m", "s5wm.checkenv", spec, str(steps), *privileged]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines: queue.Queue[dict[str, str]] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    report = Report(problems=[], agents={})
    call = "start"
    try:
        while call != END and (line := lines.get(timeout=timeout)):
            call = line.get("call", call)
            report.problems.extend([line["problem"]] if "problem" in line else [])
            report.agents.update({line["agent"]: line["why"]} if "agent" in line else {})
    except queue.Empty:
        process.kill()
        process.wait()
        report.problems.append(f"{call} did not return within {timeout:g} s")
        return _Try(report=report, death=None)
    code = process.wait()
    if code == ConfigError.exit_code:
        raise ConfigError(report.problems[-1])
    if call == END:
        return _Try(report=report, death=None)
    how = f"died with {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return _Try(report=report, death=f"{how} in {call}")


def _read(stdout: IO[str], lines: "queue.Queue[dict[str, str]]") -> None:
    for text in stdout:
        try:
            line = json.loads(text)
        except ValueError:
            continue  # the environment prints
        if isinstance(line, dict) and line:
            lines.put(line)
    lines.put({})  # the end of its output


def main() -> int:
    """Run the checks and print each result."""
    spec, steps, privileged = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    progress = Progress()
    try:
        for problem in _check(spec, steps, progress, privileged):
            _report(problem=problem)
    except ConfigError as error:
        _report(problem=str(error))
        return ConfigError.exit_code
    except Exception as error:  # noqa: BLE001 - whatever an environment raises is what is reported
        traceback.print_exc()
        _report(problem=f"{progress.call} raised {error!r}")
    _report(call=END)
    return 0


class Progress:
    """Report the next call of the environment, before it is made."""

    def __init__(self) -> None:
        self.call = "start"

    def __call__(self, call: str) -> None:
        """Report that ``call`` is next."""
        self.call = call
        _report(call=call)


def _report(**line: str) -> None:
    print(json.dumps(line), flush=True)


def _check(spec: str, steps: int, progress: Progress, privileged: Sequence[str]) -> Iterator[str]:
    from s5wm.checkenv.agents import agents_on_gym, agents_on_jax
    from s5wm.checkenv.gymenv import check_gym
    from s5wm.checkenv.jaxenv import check_jax
    from s5wm.envs.base import AbstractEnv

    progress(f"making {spec}")
    env = make(spec)
    if isinstance(env, AbstractEnv):
        yield from check_jax(env, steps, progress)
        agents = agents_on_jax(env, is_task=":" not in spec)
    else:
        yield from check_gym(env, steps, progress)
        agents = agents_on_gym(env, privileged)
    for name, why in agents.items():
        _report(agent=name, why=why)


def make(spec: str) -> Any:
    """The environment of a SPEC; what it names is imported, because its user has named it."""
    from s5wm.envs.adapters.makers import call_factory
    from s5wm.envs.adapters.tasks import FactoryConfig, GymnasiumConfig
    from s5wm.envs.task import AbstractTask
    from s5wm.experiments.tasks import task_config

    task = task_config(spec)
    if isinstance(task, GymnasiumConfig):
        return task.maker().unwrapped
    if isinstance(task, FactoryConfig):
        made = call_factory(task.factory, task.args)
        return made.build() if isinstance(made, AbstractTask) else made
    return task.build()
