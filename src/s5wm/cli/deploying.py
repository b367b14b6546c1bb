"""Verbs that bring a policy to a drone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from s5wm.cli.common import DONE, Verb, print_json, say, table
from s5wm.cli.training import Json, Policy, RunName


@dataclass(frozen=True)
class Export(Verb):
    """Write a policy as ONNX and C99 with a README of its inputs, frames and rates.

    What is written is compared with the original first; a C compiler, where there is one, builds the C file for that.
    Needs onnx and onnxruntime: pip install 's5wm[deploy]'.
    Example: s5wm export pretrained/split-s exported
    """

    policy_run: RunName
    folder: Annotated[
        Positional[Path], arg(metavar="DIR", help="A new folder, or that of an earlier export.")
    ]
    policy: Policy = "best"
    json_: Json = False

    def run(self) -> int:
        """Export."""
        from s5wm.deploy.export import export

        done = export(self.policy_run, self.folder, which=self.policy, say=say)
        errors = {name: {"flown": e.flown, "random": e.random} for name, e in done.errors.items()}
        if self.json_:
            print_json({"folder": str(done.folder), "parameters": done.parameters, "errors": errors})
            return DONE
        table(
            [
                ("parameters", f"{done.parameters:,}"),
                ("memory", f"{done.card.memory_size} numbers"),
                *(
                    (
                        f"error of {name}",
                        f"{e['flown']:.1e} on its own flight, {e['random']:.1e} on random inputs",
                    )
                    for name, e in errors.items()
                ),
                ("written to", str(done.folder)),
            ]
        )
        return DONE
