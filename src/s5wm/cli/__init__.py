"""The command line: ``s5wm VERB``.

Exit codes: 0 done, 1 a check found problems, 2 bad usage or configuration, 65 a stored file is damaged, 70 training
diverged, 73 cannot use the run directory, 74 cannot write, 75 stopped on request and resumable.
"""

import sys
import traceback
from typing import Annotated, Union

import tyro

from s5wm.cli.bench import Bench
from s5wm.cli.common import Verb
from s5wm.cli.diagnosis import CheckEnv, Doctor, Verify
from s5wm.cli.inspect import List
from s5wm.cli.pictures import Compare, Imagine, Plot
from s5wm.cli.training import Evaluate, Race, Resume, Ship, Train
from s5wm.errors import S5wmError
from s5wm.train.processes import end, is_joined

VERBS: dict[str, type[Verb]] = {
    "list": List,
    "train": Train,
    "resume": Resume,
    "eval": Evaluate,
    "race": Race,
    "imagine": Imagine,
    "plot": Plot,
    "compare": Compare,
    "bench": Bench,
    "ship": Ship,
    "doctor": Doctor,
    "verify": Verify,
    "check-env": CheckEnv,
}


def main(arguments: list[str] | None = None) -> None:
    """Parse, run, and exit with the verb's code."""
    members = tuple(Annotated[kind, tyro.conf.subcommand(name=name)] for name, kind in VERBS.items())
    verb = tyro.cli(
        Union[members],  # type: ignore[valid-type]  # noqa: UP007 - made of values
        prog="s5wm",
        description="Train, evaluate and look at world models that race quadrotors.",
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes),
    )
    try:
        code = verb.run()
    except S5wmError as error:
        print(f"s5wm: {error}", file=sys.stderr)
        end(error.exit_code)
    except Exception:
        if not is_joined():
            raise
        traceback.print_exc()
        end(1)
    end(code)
