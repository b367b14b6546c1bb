"""The verb that times: environment, updates, policy steps, the training loop."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction

from s5wm.api import make
from s5wm.cli.common import DONE, Verb, arg, print_json
from s5wm.errors import ConfigError
from s5wm.runs.provenance import provenance

Json = Annotated[bool, arg(name="json", help="Print one JSON object on stdout.")]


@dataclass(frozen=True)
class Bench(Verb):
    """Time environments, updates, policies or the training loop.

    Example: s5wm bench update --agents s5wm dreamerv3 --size 1m --length 64
    """

    what: Annotated[
        Positional[Literal["env", "update", "inference", "loop", "host"]],
        arg(
            help="Environment without an agent; one gradient update; one policy step; training itself; an environment "
            "of Gymnasium in processes, compared with Gymnasium's own."
        ),
    ]
    task: Annotated[str, arg(help="See s5wm list.")] = "race/split-s"
    agents: Annotated[tuple[str, ...], arg(help="Agents to time (not for env).")] = ("s5wm", "dreamerv3")
    size: Annotated[str, arg(help="Size of the agents.")] = "cpu"
    batch: Annotated[int | None, arg(metavar="INT", help="Windows per update; default: the preset's.")] = None
    length: Annotated[
        int | None, arg(metavar="INT", help="Time steps per window; default: the preset's.")
    ] = None
    seconds: Annotated[float, arg(help="Seconds of timing for each part of each agent, at least.")] = 2.0
    num_envs: Annotated[int, arg(help="Environments (env).")] = 256
    steps: Annotated[
        int, arg(help="Steps of each environment per repeat (env), or of the policy (inference).")
    ] = 200
    seeds: Annotated[int, arg(help="Seeds that train together (loop).")] = 1
    repeats: Annotated[int, arg(help="Repeats; the median is reported (env, loop).")] = 5
    env_arg: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="NAME=VALUE", help="Argument of an environment of your own (host); may be repeated."),
    ] = ()
    learn: Annotated[bool, arg(help="Time training too; --no-learn: collection alone (host).")] = True
    json_: Json = False

    def run(self) -> int:
        """Time and print."""
        from s5wm.bench.uncached import uncached

        self._check()
        timed = {
            "env": self._env,
            "update": self._update,
            "inference": self._inference,
            "loop": self._loop,
            "host": self._host,
        }
        with uncached():  # compile times are compile times
            timings, lines = timed[self.what]()
        if self.json_:
            print_json(timings | provenance())
        else:
            print("\n".join(lines))
        return DONE

    def _check(self) -> None:
        for name in ("num_envs", "steps", "seeds", "repeats", "batch", "length", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"--{name.replace('_', '-')} is {value}; it must be positive")
        if self.what != "env" and not self.agents:
            raise ConfigError("--agents names none; give at least one")

    def _env(self) -> tuple[dict[str, Any], Sequence[str]]:
        from s5wm.bench.env import time_env

        timings = time_env(self.task, self.num_envs, self.steps, self.repeats)
        return timings, [
            f"{timings['env_steps_per_s']:,.0f} environment steps/s with {self.num_envs} environments"
        ]

    def _update(self) -> tuple[dict[str, Any], Sequence[str]]:
        import jax.random as jr

        from s5wm.bench.agents import dreamer_configs
        from s5wm.bench.update import PARTS, side_by_side

        spec = make(self.task).spec
        configs = dreamer_configs(self.agents, self.size, self.task, batch=self.batch, length=self.length)
        timed = side_by_side(configs, spec, seconds=self.seconds, key=jr.key(0))
        timings = {"task": self.task, "size": self.size, **timed}
        lines = [f"batch {timed['batch']} x {timed['length']}, size {self.size}; medians in ms"]
        for name, own in timed["agents"].items():
            times = "  ".join(
                f"{part.replace('_', ' ')} {own[f'{part}_ms']:8.2f}{_times(own.get(f'speedup_{part}'))}"
                for part in PARTS
            )
            lines.append(f"{name:<10} {own['params'] / 1e6:6.2f} M parameters  {times}")
        return timings, lines

    def _inference(self) -> tuple[dict[str, Any], Sequence[str]]:
        from s5wm.bench.agents import policy_configs
        from s5wm.bench.inference import time_policies

        spec = make(self.task).spec
        configs = policy_configs(self.agents, self.size, self.task)
        agents = time_policies(configs, spec, steps=self.steps)
        lines = [
            f"{name:<10} p50 {own['p50_ms']:.3f} ms  p99 {own['p99_ms']:.3f} ms  max {own['max_ms']:.3f} ms"
            for name, own in agents.items()
        ]
        return {"task": self.task, "size": self.size, "agents": agents}, lines

    def _loop(self) -> tuple[dict[str, Any], Sequence[str]]:
        from s5wm.bench.loop import time_trainings
        from s5wm.experiments.presets import preset

        experiments = {name: preset(self.task, name, self.size) for name in self.agents}
        agents = time_trainings(experiments, chunks=self.repeats, seeds=self.seeds)
        lines = [
            f"{name:<10} {own['env_steps_per_s']:8,.0f} environment steps/s  {own['updates_per_s']:7.1f} updates/s"
            + _parts(own)
            for name, own in agents.items()
        ]
        return {"task": self.task, "size": self.size, "agents": agents}, lines

    def _host(self) -> tuple[dict[str, Any], Sequence[str]]:
        from s5wm.bench.hosted import time_hosted
        from s5wm.experiments.presets import preset

        agent = self.agents[0]
        experiment = preset(self.task, agent, self.size, env_args=self.env_arg)
        timings = time_hosted(experiment, steps=self.steps, repeats=self.repeats, learn=self.learn)
        lines = [
            f"{name:<10} {rate:8,.0f} environment steps/s, {timings['of_gymnasium'][name]:.2f} of Gymnasium's"
            for name, rate in timings["env_steps_per_s"].items()
        ]
        named = {"task": self.task, "env_args": list(self.env_arg), "agent": agent, "size": self.size}
        return named | timings, lines


def _parts(own: dict[str, Any]) -> str:
    if own["seeds"] > 1:
        return f"  of {own['seeds']} seeds together"
    return (
        f"  collection {own['share_collect']:.0%}  world model {own['share_world_model']:.0%}  "
        f"actor-critic and rest {own['share_rest']:.0%}"
    )


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f" ({ratio:.2f}x)"
