"""Verbs that tell about the installation and its speed."""

import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from tyro.conf import arg

from s5wm.acting import pretrained_names
from s5wm.cli.common import DONE, Verb, print_json, table
from s5wm.presets import AGENTS, TASKS, presets
from s5wm.provenance import provenance
from s5wm.train.memory import free_bytes

Json = Annotated[bool, arg(name="json", help="Print one JSON object on stdout.")]
OPTIONAL = ("rich", "matplotlib", "PIL", "tensorboardX", "gymnasium")


@dataclass(frozen=True)
class List(Verb):
    """Tasks, agents, sizes and shipped policies.

    Example: s5wm list
    """

    json_: Json = False

    def run(self) -> int:
        """Print them."""
        agents = {agent: list(sizes) for agent, sizes in AGENTS.items()}
        if self.json_:
            known = {"tasks": list(TASKS), "agents": agents, "pretrained": pretrained_names()}
            print_json(known | {"presets": [" ".join(p) for p in presets()]})
            return DONE
        rows = [("tasks", "  ".join(TASKS))]
        rows += [(f"agent {agent}", "sizes " + "  ".join(sizes)) for agent, sizes in agents.items()]
        table([*rows, ("pretrained", "  ".join(pretrained_names()) or "none")])
        return DONE


@dataclass(frozen=True)
class Doctor(Verb):
    """Check the installation: versions, devices, memory, one compiled matrix product.

    Example: s5wm doctor
    """

    json_: Json = False

    def run(self) -> int:
        """Look."""
        found = examine()
        if self.json_:
            print_json(found)
        else:
            versions = found.pop("versions")
            table([(k, str(v)) for k, v in {**versions, **found}.items()])
        return DONE


def examine() -> dict[str, Any]:
    """What the installation can do."""
    matrix = jnp.ones((512, 512))
    begun = time.perf_counter()
    total = float(jax.jit(lambda x: (x @ x).sum())(matrix))
    free = free_bytes()
    return provenance() | {
        "devices": [str(d) for d in jax.devices()],
        "free_gb": None if free is None else round(free / 1e9, 2),
        "matmul_correct": total == 512.0**3,
        "compile_and_run_s": round(time.perf_counter() - begun, 3),
        "missing_optional": [name for name in OPTIONAL if find_spec(name) is None],
    }
