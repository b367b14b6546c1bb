"""How much rewards and returns change with one action: the simulator against the world model and the critic.

From states in the middle of episodes one number of one action is moved up and down, and the policy's mean acts on.
In the simulator that changes the discounted return; an actor that learns by gradients through a model learns from what
the model and the critic say about it.  Writes ``results/sensitivity/RUN.json`` with, for each horizon H, correlation
and slope of the two changes: of the rewards of H steps, and of the return, which in imagination is H rewards and the
critic's value after them.  Needs a task whose environment is compiled, and a run with a world model:

    python benchmarks/sensitivity.py runs/split-s [--states 256] [--move 0.1]
"""

import argparse
import functools as ft
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from checkout import ROOT
from jaxtyping import Array, Bool, Float

from s5wm.agents.dreamer.agent import latest_policy
from s5wm.agents.dreamer.heads import Critic
from s5wm.agents.dreamer.policy import DreamerCarry, DreamerPolicy
from s5wm.diagnostics.loaded import LoadedRun
from s5wm.envs.base import AbstractEnv
from s5wm.runs.files import write_json
from s5wm.runs.provenance import provenance
from s5wm.types import Key, Scalar, TimeStep
from s5wm.worldmodel.dynamics import Belief
from s5wm.worldmodel.model import WorldModel

HORIZONS = (1, 3, 5, 10, 15, 20, 30, 40)
WHOLE = 200
"""Simulated steps that count as the whole return: at a discount of 0.99 what follows weighs 13 %."""

LARGEST = 0.3
"""Changes of returns are clipped to it: a crash more or less would decide all correlations."""


class Midway(eqx.Module):
    """Episodes at a time step in their middle."""

    env_state: Any
    timestep: TimeStep
    carry: DreamerCarry
    alive: Bool[Array, ""]


class Judges(eqx.Module):
    """What the returns are computed with."""

    policy: DreamerPolicy
    model: WorldModel[Any]
    critic: Critic
    smoothing_weight: Scalar


def _act(policy: DreamerPolicy, now: Midway) -> tuple[DreamerCarry, Float[Array, " A"]]:
    return policy(now.carry, now.timestep.obs, now.timestep.is_first, key=None)[:2]


def _advance(env: AbstractEnv[Any], now: Midway, carry: DreamerCarry, key: Key) -> Midway:
    env_state, timestep = env.step(now.env_state, env.spec.action.decode(carry.prev_action), key)
    return Midway(env_state, timestep, carry, now.alive & ~timestep.is_last)


@eqx.filter_jit
def midway(env: AbstractEnv[Any], policy: DreamerPolicy, states: int, key: Key) -> Midway:
    """Episodes after 100 to 500 steps with the policy's mean."""
    k_reset, k_until, k_step = jr.split(key, 3)
    env_state, timestep = jax.vmap(env.reset)(jr.split(k_reset, states))
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (states, *x.shape)), policy.initial())
    until = jr.randint(k_until, (states,), 100, 500)

    def one(now: Midway, moves: Bool[Array, ""], key: Key) -> Midway:
        following = _advance(env, now, _act(policy, now)[0], key)
        return jax.tree.map(lambda new, old: jnp.where(moves, new, old), following, now)

    def step(now: Midway, t: Array) -> tuple[Midway, None]:
        return jax.vmap(one)(now, t < until, jr.split(jr.fold_in(k_step, t), states)), None

    begin = Midway(env_state, timestep, carry, jnp.ones(states, bool))
    return jax.lax.scan(step, begin, jnp.arange(500))[0]


@eqx.filter_jit
def simulated(
    env: AbstractEnv[Any], judges: Judges, states: Midway, first: Float[Array, "N A"], key: Key
) -> tuple[Float[Array, "G N"], Bool[Array, " N"]]:
    """Discounted rewards of the first 1, 2, ... steps after ``first``, and whether the episode lasted."""
    policy, discount = judges.policy, judges.model.discount

    def one(now: Midway, t: Array, first: Array, key: Key) -> tuple[Midway, Scalar]:
        carry, action = _act(policy, now)
        carry = DreamerCarry(carry.belief, jnp.where(t == 0, first, action))
        after = _advance(env, now, carry, key)
        reward = after.timestep.reward.total(judges.smoothing_weight)
        return after, jnp.where(now.alive, discount**t * reward, 0.0)

    def step(now: Midway, t: Array) -> tuple[Midway, Array]:
        keys = jr.split(jr.fold_in(key, t), first.shape[0])
        return jax.vmap(one, in_axes=(0, None, 0, 0))(now, t, first, keys)

    end, rewards = jax.lax.scan(step, states, jnp.arange(WHOLE))
    return jnp.cumsum(rewards, axis=0), end.alive


@eqx.filter_jit
def imagined(
    judges: Judges, states: Midway, first: Float[Array, "N A"]
) -> tuple[Float[Array, "H N"], Float[Array, "H N"]]:
    """The same of centres of the prior: rewards of the first steps, and with them the critic's value after them."""
    beliefs = jax.vmap(ft.partial(_act, judges.policy))(states)[0].belief

    def one(belief: Belief[Any], t: Array, first: Array) -> tuple[Belief[Any], tuple[Scalar, Scalar, Scalar]]:
        action = jnp.where(t == 0, first, judges.policy.actor(belief.latent.feature).mode())
        belief = judges.model.dynamics.predict(belief, action, noise=None)
        feature = belief.latent.feature
        said = judges.model.predict(feature)
        return belief, (said.reward(judges.smoothing_weight), said.cont, judges.critic(feature).mean())

    _, (reward, cont, value) = jax.lax.scan(
        lambda beliefs, t: jax.vmap(one, in_axes=(0, None, 0))(beliefs, t, first),
        beliefs,
        jnp.arange(max(HORIZONS)),
    )
    reach = jnp.cumprod(cont, axis=0)
    before = jnp.concatenate([jnp.ones_like(reach[:1]), reach[:-1]])
    rewards = jnp.cumsum(before * reward, axis=0)
    return rewards, rewards + reach * value


def changes(
    evaluate: Callable[[Array], Any], base: Float[Array, "N A"], move: float
) -> list[tuple[Any, Any]]:
    """``evaluate`` of each number of the action moved up, and of the same moved down."""
    moved = [move * jnp.eye(base.shape[1])[i] for i in range(base.shape[1])]
    return [(evaluate(jnp.clip(base + m, -1, 1)), evaluate(jnp.clip(base - m, -1, 1))) for m in moved]


def _agreement(real: Float[np.ndarray, " K"], said: Float[np.ndarray, " K"]) -> dict[str, float]:
    real, said = np.clip(real, -LARGEST, LARGEST), np.clip(said, -LARGEST, LARGEST)
    return {"correlation": float(np.corrcoef(real, said)[0, 1]), "slope": float(real @ said / (real @ real))}


def measure(run: Path, states: int, move: float, seed: int = 0) -> dict[str, Any]:
    """Everything that the file holds of one run."""
    loaded = LoadedRun.load(run, print)
    if loaded.state is None:
        raise SystemExit(f"{run} is a shipped policy, without a critic; give the directory of a run")
    learner = loaded.state.learner
    env = loaded.experiment.task.eval_config().build()
    policy = latest_policy(learner.params)
    judges = Judges(policy, loaded.model, learner.params.critic, loaded.state.smoothing_weight)
    k_states, k_steps = jr.split(jr.key(seed))
    begin = midway(env, policy, states, k_states)
    base = jax.vmap(ft.partial(_act, policy))(begin)[1]
    real = changes(lambda first: simulated(env, judges, begin, first, k_steps), base, move)
    said = changes(lambda first: imagined(judges, begin, first), base, move)
    lasted = [np.asarray(up[1] & down[1]) for up, down in real]

    def joined(pairs: list[tuple[Any, Any]], index: int, row: int) -> Float[np.ndarray, " K"]:
        parts = [
            np.asarray(up[index][row] - down[index][row])[ok]
            for (up, down), ok in zip(pairs, lasted, strict=True)
        ]
        return np.concatenate(parts)

    whole = joined(real, 0, -1)
    return {
        "run": run.name,
        "task": loaded.experiment.name.task,
        "agent": loaded.experiment.name.agent,
        "env_steps": loaded.env_steps,
        "states": states,
        "move": move,
        "lasted": float(np.mean(np.concatenate(lasted))),
        "change_of_return": {"std": float(whole.std()), "mean": float(whole.mean())},
        "horizons": [
            {
                "steps": h,
                "rewards": _agreement(joined(real, 0, h - 1), joined(said, 0, h - 1)),
                "return": _agreement(whole, joined(said, 1, h - 1)),
            }
            for h in HORIZONS
        ],
        **provenance(),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--states", type=int, default=256)
    parser.add_argument("--move", type=float, default=0.1, help="of one number of an action, in [-1, 1]")
    parser.add_argument("--output", type=Path, default=ROOT / "results/sensitivity")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for run in options.runs:
        found = measure(run, options.states, options.move)
        print(f"{run.name}, {found['env_steps']:,} steps: rewards, return (correlation, slope)")
        for row in found["horizons"]:
            pairs = [f"{row[k]['correlation']:+.2f}, {row[k]['slope']:+.2f}" for k in ("rewards", "return")]
            print(f"{row['steps']:4d} steps  {pairs[0]}   {pairs[1]}")
        file = options.output / f"{run.name}.json"
        write_json(file, found)
        print(f"written: {file}")


if __name__ == "__main__":
    main()
