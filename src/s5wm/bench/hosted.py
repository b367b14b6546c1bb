"""Speed of environments that the host steps: Gymnasium's own processes, ours, and collection and training with them.

All take turns, repeat by repeat, so that whatever else the machine does falls on each alike.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Any

import jax
import jax.random as jr
import numpy as np

from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.envs.adapters.gymnasium import host_env
from s5wm.envs.adapters.tasks import FactoryConfig, GymnasiumConfig
from s5wm.envs.host import HostEnv, timestep_of
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import Experiment
from s5wm.training.hosted import HostedChunk, collect_rollout
from s5wm.training.state import TrainState, init_actor, init_train

Turn = Callable[[], int]
"""Takes some steps and returns their number over all environments."""


def time_hosted(experiment: Experiment, *, steps: int, repeats: int, learn: bool = True) -> dict[str, Any]:
    """Environment steps per second, ``steps`` of each environment per repeat: median and samples of each way.

    ``gymnasium`` is AsyncVectorEnv under random actions, ``processes`` ours under the same, ``collect`` a policy that
    acts in ours and stores the rollout; with ``learn`` also ``train``, that and learning one after the other, and
    ``overlap``, both at once.
    """
    task, agent = experiment.task, experiment.agent
    if not isinstance(task, GymnasiumConfig | FactoryConfig) or not isinstance(task.build(), HostEnv):
        raise ConfigError(
            "bench host times environments of Gymnasium: give --task gymnasium:ID or module:function"
        )
    if not isinstance(agent, DreamerConfig):
        raise ConfigError("bench host trains world-model agents: give --agents s5wm or dreamerv3")
    hosting = replace(task.hosting, processes=True)
    env = host_env(task.maker, hosting)
    num = experiment.train.num_envs
    drawn = jr.normal(jr.key(0), (256, num, env.spec.action_size))
    actions = np.asarray(env.spec.action.decode(drawn))
    learns = replace(agent, replay=replace(agent.replay, prefill=1))
    chunks = -(-steps // experiment.train.rollout_length)
    with ExitStack() as stack:
        turns: dict[str, Turn] = {
            "gymnasium": _gymnasium(task.maker, env, actions, steps, stack),
            "processes": _processes(env, actions, steps, stack),
            "collect": _collecting(experiment, env, chunks, stack),
        }
        if learn:
            overlapping = host_env(task.maker, replace(hosting, overlap=True))
            turns["train"] = _training(replace(experiment, agent=learns), env, chunks, stack)
            turns["overlap"] = _training(replace(experiment, agent=learns), overlapping, chunks, stack)
        for turn in turns.values():
            turn()  # what compiles, compiles here
        samples: dict[str, list[float]] = {name: [] for name in turns}
        for _ in range(repeats):
            for name, turn in turns.items():
                begun = time.perf_counter()
                samples[name].append(turn() / (time.perf_counter() - begun))
    rates = {name: median(values) for name, values in samples.items()}
    ratios = {name: median(np.array(samples[name]) / samples["gymnasium"]) for name in turns}
    return {
        "num_envs": num,
        "steps": steps,
        "env_steps_per_s": rates,
        "of_gymnasium": {name: float(ratio) for name, ratio in ratios.items()},
        "samples": samples,
    }


def _gymnasium(make: Any, env: HostEnv, actions: Any, steps: int, stack: ExitStack) -> Turn:
    from gymnasium.vector import AsyncVectorEnv, AutoresetMode

    num = actions.shape[1]
    envs = AsyncVectorEnv([make] * num, context="spawn", autoreset_mode=AutoresetMode.NEXT_STEP)
    stack.callback(envs.close)
    envs.reset(seed=0)

    def turn() -> int:
        for t in range(steps):
            envs.step(env.give(actions[t % len(actions)]))
        return steps * num

    return turn


def _processes(env: HostEnv, actions: Any, steps: int, stack: ExitStack) -> Turn:
    num = actions.shape[1]
    envs = env.open(num)
    stack.callback(envs.close)
    envs.reset(0)

    def turn() -> int:
        for t in range(steps):
            envs.step(actions[t % len(actions)])
        return steps * num

    return turn


def _collecting(experiment: Experiment, env: HostEnv, rollouts: int, stack: ExitStack) -> Turn:
    config = experiment.train
    agent = experiment.build_agent(env)
    policy = jax.jit(lambda key: agent.policy(agent.init(key)))(jr.key(0))
    envs = env.open(config.num_envs)
    stack.callback(envs.close)
    actor = init_actor(env, policy, config.num_envs, key=jr.key(1))
    actor = replace(actor, timestep=timestep_of(envs.reset(0)))
    keys = jr.split(jr.key(2), config.rollout_length)

    def turn() -> int:
        nonlocal actor
        for _ in range(rollouts):
            actor, rollout = collect_rollout(envs.step, env.spec.action, policy, actor, keys)
            jax.block_until_ready(rollout)
        return rollouts * config.iteration_steps

    return turn


def _training(experiment: Experiment, env: HostEnv, iterations: int, stack: ExitStack) -> Turn:
    config = experiment.train
    agent = experiment.build_agent(env)
    chunk = HostedChunk(
        env, agent, num_envs=config.num_envs, length=config.rollout_length, seed=experiment.seed
    )
    stack.callback(chunk.close)
    states: list[TrainState[Any]] = [init_train(env, agent, config.num_envs, experiment.seed)]

    def turn() -> int:
        ((states[0], _, _),) = jax.block_until_ready(chunk(states, iterations))
        return iterations * config.iteration_steps

    # Enough time steps to sample windows, and the programs.
    length = experiment.agent.replay.length if isinstance(experiment.agent, DreamerConfig) else 1
    chunk_of = -(-(length + 1) // config.rollout_length)
    ((states[0], _, _),) = chunk(states, chunk_of)
    return turn
