"""The verb that lists tasks, agents and policies."""

from dataclasses import dataclass
from typing import Annotated

from s5wm.cli.common import DONE, Verb, arg, print_json, table
from s5wm.experiments.names import STATE_AGENTS, TASKS, presets, pretrained_names

Json = Annotated[bool, arg(name="json", help="Print one JSON object on stdout.")]


@dataclass(frozen=True)
class List(Verb):
    """Tasks, agents, sizes and shipped policies.

    Example: s5wm list
    """

    json_: Json = False

    def run(self) -> int:
        """Print them."""
        tasks, agents = TASKS, STATE_AGENTS
        if self.json_:
            known = {"tasks": tasks, "agents": agents, "pretrained": pretrained_names()}
            print_json(known | {"presets": [" ".join(p) for p in presets()]})
            return DONE
        rows = [("tasks", "  ".join(tasks))]
        rows += [(f"agent {agent}", "sizes " + "  ".join(sizes)) for agent, sizes in agents.items()]
        table([*rows, ("pretrained", "  ".join(pretrained_names()) or "none")])
        return DONE
