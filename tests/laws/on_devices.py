"""Trains a little on one device and on several, in a process that has several; prints what differs.

XLA_FLAGS=--xla_force_host_platform_device_count=4 python -m tests.laws.on_devices AGENT DEVICES
"""

import json
import sys
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from s5wm.agents.ppo.agent import PPOConfig
from s5wm.distributed.placement import Placement
from s5wm.envs.toys import DoubleIntegratorConfig
from s5wm.experiments.experiment import AgentConfig, Experiment
from s5wm.training.config import TrainConfig
from s5wm.training.loop import compiled
from s5wm.training.run import abstract_state
from s5wm.training.state import init_train

from ..tiny import DREAMERV3, S5WM

BATCH = replace(S5WM.replay, batch=8)
AGENTS: dict[str, AgentConfig] = {
    "s5wm": replace(S5WM, replay=BATCH),
    "dreamerv3": replace(DREAMERV3, replay=BATCH),
    "ppo": PPOConfig(units=8, layers=1, epochs=1, minibatches=2),
}
TRAIN = TrainConfig(num_envs=8, rollout_length=8, iterations_per_chunk=2)


def trained(agent: AgentConfig, devices: int, chunks: int = 3) -> dict[str, Any]:
    """State, metrics, FLOPs of one device and share of its memory after some chunks."""
    experiment = Experiment(task=DoubleIntegratorConfig(steps=10), agent=agent, train=TRAIN)
    program = experiment.build()
    placement = Placement.over(devices, num_envs=TRAIN.num_envs)
    shardings = placement.shardings(abstract_state(program, TRAIN, 0))
    state = init_train(program.env, program.agent, TRAIN.num_envs, 0, shardings=shardings)
    with placement.scope():
        lowered = compiled(shardings).lower(
            program.env,
            program.agent,
            [state],
            length=TRAIN.rollout_length,
            iterations=np.int32(TRAIN.iterations_per_chunk),
        )
        chunk = lowered.compile()
    metrics: Any = {}
    for _ in range(chunks):
        ((state, metrics, _),) = chunk(
            program.env, program.agent, [state], iterations=np.int32(TRAIN.iterations_per_chunk)
        )
    return {
        "state": jax.tree.map(_plain, state),
        "metrics": jax.tree.map(_plain, metrics),
        "flops": chunk.cost_analysis()["flops"],
        "envs": state.actor.length.addressable_shards[0].data.shape[0],
    }


def _plain(leaf: jax.Array) -> np.ndarray[Any, Any]:
    return np.asarray(
        jr.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf, np.float64
    )


def _gap(left: Any, right: Any) -> float:
    gaps = jax.tree.map(
        lambda a, b: float(np.max(np.abs(a - b) / (1.0 + np.abs(a)), initial=0.0)), left, right
    )
    return max(jax.tree.leaves(gaps))


def main(name: str, devices: int) -> None:
    """One line of JSON: relative gaps, and what one of the devices has of the work and of the environments."""
    single, several = trained(AGENTS[name], 1), trained(AGENTS[name], devices)
    gaps = {what: _gap(single[what], several[what]) for what in ("state", "metrics")}
    shares = {what: several[what] / single[what] for what in ("flops", "envs")}
    print(json.dumps(gaps | shares))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
