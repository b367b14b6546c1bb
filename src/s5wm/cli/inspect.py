"""Verbs that tell about the installation and its speed."""

import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import jax.random as jr
from tyro.conf import Positional, arg

from s5wm.acting import pretrained_names
from s5wm.api import make
from s5wm.cli.common import DONE, Verb, print_json, table
from s5wm.errors import ConfigError
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


@dataclass(frozen=True)
class Bench(Verb):
    """Time the environment without an agent.

    Example: s5wm bench env --task race/split-s --num-envs 256 --json
    """

    what: Annotated[Positional[Literal["env"]], arg(help="What to time.")]
    task: Annotated[str, arg(help="See s5wm list.")] = "race/split-s"
    num_envs: Annotated[int, arg(help="Copies.")] = 256
    steps: Annotated[int, arg(help="Steps of each copy per repeat.")] = 200
    repeats: Annotated[int, arg(help="Repeats; the median counts.")] = 5
    json_: Json = False

    def run(self) -> int:
        """Time and print."""
        for name in ("num_envs", "steps", "repeats"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1"
                )
        figures = time_env(self.task, self.num_envs, self.steps, self.repeats)
        if self.json_:
            print_json(figures)
        else:
            print(f"{figures['env_steps_per_s']:,.0f} environment steps/s with {self.num_envs} copies")
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


def time_env(task: str, num_envs: int, steps: int, repeats: int) -> dict[str, Any]:
    """Environment steps per second under random actions."""
    env = make(task)
    k_reset, k_step = jr.split(jr.key(0))
    states, _ = jax.jit(jax.vmap(env.reset))(jr.split(k_reset, num_envs))

    @jax.jit
    def advance(states: Any, key: Any) -> Any:
        def step(states: Any, key: Any) -> tuple[Any, Any]:
            k_action, k_env = jr.split(key)
            action = jr.uniform(k_action, (num_envs, env.spec.action_size), minval=-1.0, maxval=1.0)
            states, timestep = jax.vmap(env.step)(states, action, jr.split(k_env, num_envs))
            return states, timestep.reward.nominal.sum()

        return jax.lax.scan(step, states, jr.split(key, steps))

    states, _ = jax.block_until_ready(advance(states, k_step))
    samples: list[float] = []
    for _ in range(repeats):
        begun = time.perf_counter()
        states, _ = jax.block_until_ready(advance(states, k_step))
        samples.append(num_envs * steps / (time.perf_counter() - begun))
    median = sorted(samples)[len(samples) // 2]
    options = {"task": task, "num_envs": num_envs, "steps": steps}
    return {"env_steps_per_s": median, "samples": samples, **options, **provenance()}
