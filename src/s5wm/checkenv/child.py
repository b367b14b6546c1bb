"""The check of an environment in a process of its own, which may hang or die.

The child writes one JSON object per line: ``call``, what it is about to do; ``problem``, what is wrong; ``fact``, what
the environment is like; ``agent``, whether it can train; or ``usage``, why there is nothing to check.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from s5wm.errors import ConfigError

if TYPE_CHECKING:
    from s5wm.checkenv.agents import Judged
    from s5wm.checkenv.seen import Seen

END = "end"

START, LOOK = "start", "looking which agents can train on it"
"""What takes time of ours, not of the environment: loading JAX and, of each agent, the shapes of its arrays."""

OUR_SECONDS = 300.0
"""Given to these."""

EXIT_SECONDS = 5.0
"""Given to a process that has said all to exit by itself."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to check."""

    spec: str
    steps: int
    env_args: tuple[str, ...] = ()
    privileged: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """Result of a check."""

    problems: list[str] = field(default_factory=list[str])
    facts: dict[str, str] = field(default_factory=dict[str, str])  # what the environment is like, in words
    # Why each agent cannot be trained on the environment; empty where it can, no entry where unknown.
    agents: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class _Try:
    report: Report
    death: str | None  # how the process died, if it did


RESTARTS = 3
"""Restarts of a process that died."""


def check_in_child(question: Question, timeout: float) -> Report:
    """Check an environment; no call of it may take more than ``timeout`` seconds.

    One whose process dies is started anew, up to three times, to see whether it always does.
    """
    tries = [_check_once(question, timeout)]
    while tries[-1].death is not None and len(tries) <= RESTARTS:
        tries.append(_check_once(question, timeout))
    last = tries[-1].report
    deaths = [each.death for each in tries if each.death is not None]
    died = [f"its process {deaths[0]}, in {len(deaths)} of {len(tries)} tries"] if deaths else []
    return Report(problems=last.problems + died, facts=last.facts, agents=last.agents)


def _check_once(question: Question, timeout: float) -> _Try:
    command = [sys.executable, "-m", "s5wm.checkenv", json.dumps(asdict(question))]
    # In a session of its own, so that what its environment begins can be ended with it.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    return _follow(process, timeout)


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill the process and those of its environment."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _follow(process: subprocess.Popen[str], timeout: float) -> _Try:
    """Gather what the process reports, to its end."""
    assert process.stdout is not None
    lines: queue.Queue[dict[str, str]] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    report = Report()
    call = START
    try:
        while call != END and (line := lines.get(timeout=_limit(call, timeout))):
            if "usage" in line:
                raise ConfigError(line["usage"])
            call = line.get("call", call)
            report.problems.extend([line["problem"]] if "problem" in line else [])
            report.facts.update({line["fact"]: line["is"]} if "fact" in line else {})
            report.agents.update({line["agent"]: line["why"]} if "agent" in line else {})
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=EXIT_SECONDS)
    except queue.Empty:
        report.problems.append(f"{call} did not return within {_limit(call, timeout):g} s")
        return _Try(report=report, death=None)
    finally:
        _kill(process)
        reader.join(timeout=1.0)
        if not reader.is_alive():  # else a process of the environment holds the pipe, and reading goes on
            process.stdout.close()
    code = process.returncode
    if call == END:
        return _Try(report=report, death=None)
    how = f"died with {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return _Try(report=report, death=f"{how} in {call}")


def _limit(call: str, timeout: float) -> float:
    return max(timeout, OUR_SECONDS) if call in (START, LOOK) else timeout


def _read(stdout: Iterable[str], lines: "queue.Queue[dict[str, str]]") -> None:
    for text in stdout:
        try:
            line = json.loads(text)
        except ValueError:
            continue  # a process of the environment that outlives ours
        if isinstance(line, dict) and line:
            lines.put(line)
    lines.put({})  # the end of its output


def main() -> int:
    """Run the checks and print each result."""
    question = Question(**json.loads(sys.argv[1]))
    _keep_output()
    progress = Progress()
    try:
        for problem in _check(question, progress):
            _report(problem=problem)
    except ConfigError as error:
        _report(usage=str(error))
        return ConfigError.exit_code
    except Exception as error:  # noqa: BLE001 - whatever an environment raises is what is reported
        traceback.print_exc()
        _report(problem=f"{progress.call} raised {error!r}")
    _report(call=END)
    return 0


class Progress:
    """Report the next call of the environment, before it is made."""

    def __init__(self) -> None:
        self.call = START

    def __call__(self, call: str) -> None:
        """Report that ``call`` is next."""
        self.call = call
        _report(call=call)


def _keep_output() -> None:
    """Send what the environment prints to stderr, so that stdout holds reports alone."""
    global _reports
    _reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


_reports = sys.stdout


def _report(**line: str) -> None:
    print(json.dumps(line), file=_reports, flush=True)


def _check(question: Question, progress: Progress) -> Iterator[str]:
    from s5wm.checkenv.agents import Judged, agents_on_gym, agents_on_jax
    from s5wm.checkenv.gymenv import check_close, check_gym
    from s5wm.checkenv.jaxenv import check_jax
    from s5wm.checkenv.seen import Seen
    from s5wm.envs.base import AbstractEnv

    progress(f"making {question.spec}")
    env, limit = make(question)
    seen = Seen(limit)
    found: Judged | None = None
    try:
        if isinstance(env, AbstractEnv):
            yield from check_jax(env, question.steps, progress, seen)
            progress(LOOK)
            found = agents_on_jax(env, is_task=":" not in question.spec)
        else:
            yield from check_gym(env, question.steps, progress, seen)
            progress(LOOK)
            found = agents_on_gym(env, question.privileged)
    except ConfigError as error:
        yield str(error)
    except Exception as error:  # noqa: BLE001 - whatever an environment raises is what is reported
        traceback.print_exc()
        yield f"{progress.call} raised {error!r}"
    if not isinstance(env, AbstractEnv):
        yield from check_close(env, progress)
    if found is not None:
        yield from _told(found, seen)


def _told(found: "Judged", seen: "Seen") -> Iterator[str]:
    """Report what the environment is like and who can train on it."""
    from s5wm.checkenv.seen import spec_in_words

    facts = {} if found.spec is None else spec_in_words(found.spec)
    for name, text in (facts | seen.facts()).items():
        _report(fact=name, **{"is": text})
    for name, why in found.misfits.items():
        _report(agent=name, why=why)
    if all(found.misfits.values()):
        yield "no agent can train on it"


def make(question: Question) -> tuple[Any, int | None]:
    """The environment of a SPEC, and the steps of its longest episode where a limit is known.

    What the SPEC names is imported, because its user has named it.
    """
    from s5wm.envs.adapters.gymnasium import time_limit
    from s5wm.envs.adapters.makers import call_factory
    from s5wm.envs.adapters.tasks import FactoryConfig, GymnasiumConfig
    from s5wm.envs.base import AbstractEnv
    from s5wm.envs.task import AbstractTask
    from s5wm.experiments.tasks import task_config

    task = task_config(question.spec, question.env_args, question.privileged)
    if isinstance(task, GymnasiumConfig):
        # As it is trained on; Gymnasium's own checker would speak before ours.
        env = task.maker(disable_env_checker=True)
        return env, time_limit(env)
    made = call_factory(task.factory, task.args) if isinstance(task, FactoryConfig) else task
    if isinstance(made, AbstractTask):
        return made.build(), made.max_steps
    limit = getattr(made, "max_steps", None) if isinstance(made, AbstractEnv) else time_limit(made)
    return made, limit if isinstance(limit, int) else None
