"""The command line: ``s5wm VERB``.

Exit codes: 0 done, 1 a check found problems, 2 bad usage or configuration, 65 a stored file is damaged, 69 environments
failed too often, 70 training diverged, 73 cannot use the run directory, 74 cannot write, 75 stopped on request and
resumable, 130 stopped by Ctrl-C with nothing new to save, or in a flight (143 by SIGTERM, 138 by SIGUSR1, 129 by
SIGHUP).

Nothing is imported before it is needed: help and lists must not wait for JAX.
"""

import importlib
import os
import shutil
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from s5wm.cli.streams import flush_streams, open_streams
from s5wm.distributed.compilecache import turn_on
from s5wm.distributed.switches import check_devices, check_imports, check_settings
from s5wm.errors import ConfigError, S5wmError
from s5wm.runs.console import print_line

if TYPE_CHECKING:
    from s5wm.cli.common import Verb

CLOSED_PIPE = 128 + 13
"""Exit code of a command whose reader went away, as that of one ended by SIGPIPE."""

INTERRUPTED = 128 + 2
"""Exit code of a command that Ctrl-C ended while it had nothing to save, as that of one ended by SIGINT."""

NARROWEST = 40
"""Columns below which help cannot be laid out; a narrower terminal gets lines of this width."""


@dataclass(frozen=True)
class Entry:
    """Where a verb is defined, and what it does in one line.

    Its module holds options alone and imports what it runs when it runs it: help waits for no JAX.
    ``computes``: whether it runs compiled programs of ours; None where not even JAX is loaded.
    """

    module: str
    kind: str
    summary: str
    computes: bool | None = True

    def load(self) -> "type[Verb]":
        """The verb's class."""
        return getattr(importlib.import_module(f"s5wm.cli.{self.module}"), self.kind)


VERBS: dict[str, Entry] = {
    "list": Entry("inspect", "List", "Tasks, agents, sizes and shipped policies.", computes=None),
    "train": Entry("training", "Train", "Train an agent, or go on with an existing --run."),
    "resume": Entry("training", "Resume", "Go on with a run exactly where it stopped."),
    "sweep": Entry(
        "sweep",
        "Sweep",
        "Train over a grid of settings and seeds, here or on SLURM.",
        computes=False,
    ),
    "eval": Entry(
        "evaluating",
        "Evaluate",
        "Evaluate a policy by the rules of its task; make a video.",
    ),
    "race": Entry(
        "race",
        "Race",
        "Train S5WM on the Split-S and draw its flight, as make race does.",
    ),
    "imagine": Entry(
        "pictures",
        "Imagine",
        "Open-loop prediction error against horizon, of one or more runs.",
    ),
    "plot": Entry(
        "pictures",
        "Plot",
        "Draw learning curves and flights of runs into plots/.",
    ),
    "view": Entry(
        "viewing",
        "View",
        "Show an episode and its imagined futures in the browser.",
    ),
    "compare": Entry(
        "pictures",
        "Compare",
        "Compare agents: a table over seeds, and one picture of curves.",
        computes=False,
    ),
    "bench": Entry(
        "bench",
        "Bench",
        "Time environments, updates, policies or the training loop.",
    ),
    "ship": Entry(
        "deploying",
        "Ship",
        "Evaluate a run's policy and write it as a small artefact.",
    ),
    "export": Entry(
        "deploying",
        "Export",
        "Write a policy as ONNX and C99, with a README.",
    ),
    "fly": Entry(
        "deploying",
        "Fly",
        "Fly an exported policy at its fixed rate, without JAX.",
        computes=None,
    ),
    "doctor": Entry(
        "diagnosis",
        "Doctor",
        "Check the installation: versions, devices, memory, a checkpoint.",
        computes=False,
    ),
    "verify": Entry(
        "diagnosis",
        "Verify",
        "Check that every file of a run is what was written.",
        computes=False,
    ),
    "check-env": Entry(
        "diagnosis",
        "CheckEnv",
        "Check an environment, and say which agents can train on it.",
        computes=False,
    ),
    "init-env": Entry(
        "initenv",
        "InitEnv",
        "Write a small environment of your own to start from.",
        computes=None,
    ),
    "check-track": Entry(
        "tracks",
        "CheckTrack",
        "Check a track of your own: gates in the way or out of reach.",
        computes=False,
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """Parse, run, and exit with the verb's code."""
    open_streams()
    try:
        code = _run_flushed(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        code = CLOSED_PIPE  # whoever read our output has what it wanted
    except S5wmError as error:
        print_line(f"s5wm: {error}")
        code = error.exit_code
    except KeyboardInterrupt:
        print_line("s5wm: stopped by Ctrl-C with nothing new to save; the same command starts it again")
        # The threads of an interrupted compilation go on, and may crash a process that ends in the usual way.
        os._exit(INTERRUPTED)
    except Exception:
        if not _is_joined():
            raise
        traceback.print_exc()
        code = 1
    _leave(code)


def _run_flushed(given: list[str]) -> int:
    """Run and flush stdout; returns the exit code."""
    try:
        return _run(given)
    finally:
        sys.stdout.flush()


def _run(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        print(_overview())
        return 0 if given else 2
    if given[0] == "--version":
        print(_version())
        return 0
    if given[0] not in VERBS:
        raise ConfigError(_unknown(given[0]))
    return _verb(given[0], given[1:])


def _verb(name: str, options: list[str]) -> int:
    entry = VERBS[name]
    import tyro

    entry.load().check_options(options)
    _widen()
    verb = tyro.cli(
        entry.load(),
        prog=f"s5wm {name}",
        args=options,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes),
    )
    if entry.computes:
        # XLA's alarms of slow compilations, and what it thinks of programs out of a cache, are for its developers.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if entry.computes is not None:
        # Pictures go to files.  The backend of a notebook that starts us need not be installed here.
        os.environ["MPLBACKEND"] = "agg"
        check_imports()
    if entry.computes:
        check_settings()
        hardware = getattr(verb, "hardware", None)
        if hardware is None or hardware.coordinator is None:
            # Several processes join before any device wakes, and all compile or none does.
            check_devices()
            turn_on()
    return verb.run()


def _overview() -> str:
    width = max(len(name) for name in VERBS)
    room = max(shutil.get_terminal_size().columns, NARROWEST) - width - 4
    lines = [
        "usage: s5wm VERB ...",
        "",
        "Learn a simulator of an environment, train a policy inside it, and look at both.",
        "",
    ]
    for name, entry in VERBS.items():
        summary = entry.summary if len(entry.summary) <= room else entry.summary[: room - 3].rstrip() + "..."
        lines.append(f"  {name:<{width}}  {summary}")
    return "\n".join(
        [*lines, "", "s5wm VERB --help explains a verb, with an example; s5wm --version prints the version."]
    )


def _version() -> str:
    from s5wm.runs.provenance import version

    return f"s5wm {version('s5wm')}"


def _unknown(word: str) -> str:
    from s5wm.runs.codec import suggest

    return f"{word!r} is no verb" + suggest(word, list(VERBS)) + "; see s5wm --help"


def _widen() -> None:
    """Help is laid out in as many columns as the terminal has, which a layout needs some of."""
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)


def _is_joined() -> bool:
    """Whether other processes wait for this one; without JAX none can."""
    if "jax" not in sys.modules:
        return False
    from s5wm.distributed.processes import is_joined

    return is_joined()


def _leave(code: int) -> NoReturn:
    """Exit; where other processes wait for this one, at once."""
    flush_streams()
    if _is_joined():
        from s5wm.distributed.processes import end

        end(code)
    sys.exit(code)
