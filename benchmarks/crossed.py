"""Policies of several runs in one simulator and in one world model: is a better policy better in imagination, too?

The first run gives the task, the world model and the critic; each policy (its latest mean) flies in the simulator, with
and without normal noise on its actions, and in imagination from states of its own flights.  Writes
``results/crossed/RUN.json`` with, for each policy: survival and the discounted return under each noise, the critic's
value of the states, and after H steps the rewards (real, imagined) and the imagined share that is alive.  If a policy
is better in the simulator and worse in the model, the model holds learning back; if in both, the search for it does.
The model's latent has to be the observation itself, on which all policies act:

    python benchmarks/crossed.py runs/figure-8 runs/ppo-figure-8 [--episodes 32]
"""

import argparse
import functools as ft
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from checkout import ROOT
from jaxtyping import Array, Bool, Float

from s5wm.agents.base import AbstractPolicy
from s5wm.agents.dreamer.policy import DreamerCarry
from s5wm.diagnostics.loaded import LoadedRun
from s5wm.envs.base import AbstractEnv
from s5wm.experiments.trained import load_agent
from s5wm.runs.files import write_json
from s5wm.runs.provenance import provenance
from s5wm.types import Key, Scalar, TimeStep
from s5wm.worldmodel.dynamics import Belief
from s5wm.worldmodel.model import WorldModel

Policy = AbstractPolicy[Any, Any]

NOISES = (0.0, 0.05, 0.1, 0.15)
"""Standard deviations on actions in [-1, 1]; imagination begins in flights of the first, without noise."""

HORIZONS = (5, 15, 40)
STEPS = 900
FIRST, LAST, EVERY = 100, 500, 25
"""Time steps from which imagination begins; what follows the last one is the return of real rewards."""


class Now(eqx.Module):
    """A flight at one time step."""

    env_state: Any
    timestep: TimeStep
    carry: Any  # memory of the policy
    belief: Belief[Any]  # of the world model, before this time step
    action: Float[Array, " A"]  # of the step before
    alive: Bool[Array, ""]


class Flown(eqx.Module):
    """Each time step of a flight ``[N, T]``: states after the observation, and the reward of the action."""

    belief: Belief[Any]
    carry: Any  # memory of the policy before it
    reward: Scalar
    alive: Bool[Array, ""]


class World(eqx.Module):
    """The first run's: where policies fly, in truth and in imagination."""

    env: AbstractEnv[Any]
    model: WorldModel[Any]
    smoothing_weight: Scalar


@eqx.filter_jit
def flown(world: World, policy: Policy, noise: Scalar, episodes: int, key: Key) -> Flown:
    """Whole flights with the policy's mode and ``noise`` on its actions."""
    env, model = world.env, world.model

    def one(key: Key) -> Flown:
        k_reset, k_steps = jr.split(key)
        env_state, timestep = env.reset(k_reset)
        begin = Now(
            env_state,
            timestep,
            policy.initial(),
            model.dynamics.initial(),
            jnp.zeros(env.spec.action.width),
            jnp.ones((), bool),
        )

        def step(now: Now, key: Key) -> tuple[Now, Flown]:
            timestep = now.timestep
            belief = model.dynamics.step(
                now.belief, model.encoder(timestep.obs), now.action, timestep.is_first, noise=None
            )
            carry, action = policy(now.carry, timestep.obs, timestep.is_first, key=None)[:2]
            action = jnp.clip(action + noise * jr.normal(key, action.shape), -1.0, 1.0)
            if isinstance(carry, DreamerCarry):
                carry = DreamerCarry(carry.belief, action)  # a memory knows what was flown
            env_state, following = env.step(now.env_state, env.spec.action.decode(action), key)
            reward = jnp.where(now.alive, following.reward.total(world.smoothing_weight), 0.0)
            after = Now(env_state, following, carry, belief, action, now.alive & ~following.is_terminal)
            return after, Flown(belief, now.carry, reward, now.alive)

        return jax.lax.scan(step, begin, jr.split(k_steps, STEPS))[1]

    return jax.vmap(one)(jr.split(key, episodes))


@eqx.filter_jit
def imagined(
    world: World, policy: Policy, beliefs: Belief[Any], carries: Any, key: Key
) -> tuple[Float[Array, "N H"], Float[Array, "N H"]]:
    """Discounted rewards of the first 1, 2, ... imagined steps, and the share that is alive after each."""
    model = world.model
    count = jax.tree.leaves(beliefs)[0].shape[0]
    noise = model.dynamics.space.noise(key, (count, max(HORIZONS)))

    def one(belief: Belief[Any], carry: Any, noise: Array) -> tuple[Array, Array]:
        def step(
            now: tuple[Belief[Any], Any], noise: Array
        ) -> tuple[tuple[Belief[Any], Any], tuple[Scalar, Scalar]]:
            belief, carry = now
            carry, action = policy(carry, belief.latent.stoch, jnp.zeros((), bool), key=None)[:2]
            belief = model.dynamics.predict(belief, jnp.clip(action, -1.0, 1.0), noise=noise)
            said = model.predict(belief.latent.feature)
            return (belief, carry), (said.reward(world.smoothing_weight), said.cont)

        _, (reward, cont) = jax.lax.scan(step, (belief, carry), noise)
        reach = jnp.cumprod(cont)
        before = jnp.concatenate([jnp.ones(1), reach[:-1]])
        return jnp.cumsum(before * reward), jnp.cumprod(cont / model.discount)

    return jax.vmap(one)(beliefs, carries, noise)


def discounted(reward: Float[np.ndarray, "N T"], discount: float) -> Float[np.ndarray, "N T"]:
    """``G_t = r_t + discount G_{t+1}``; nothing follows the last time step."""
    returns, following = np.zeros_like(reward), np.zeros(reward.shape[0], reward.dtype)
    for t in reversed(range(reward.shape[1])):
        following = reward[:, t] + discount * following
        returns[:, t] = following
    return returns


def measure(loaded: LoadedRun, policy: Policy, episodes: int, key: Key) -> dict[str, Any]:
    """Rows of one policy."""
    assert loaded.state is not None, "main checks it"
    env = loaded.experiment.task.eval_config().build()
    world = World(env, loaded.model, loaded.state.smoothing_weight)
    critic, discount = loaded.state.learner.params.critic, float(loaded.model.discount)
    fly = ft.partial(flown, world, policy)
    calm, *rough = (fly(jnp.asarray(noise), episodes, key) for noise in NOISES)
    noises = []
    for noise, found in zip(NOISES, jax.device_get([calm, *rough]), strict=True):
        within = found.alive[:, FIRST:LAST]
        returns = discounted(found.reward, discount)[:, FIRST:LAST]
        noises.append(
            {
                "noise": noise,
                "survived": float(found.alive[:, -1].mean()),
                "return": float(returns[within].mean()) if within.any() else None,
            }
        )
    value = np.asarray(critic(calm.belief.latent.feature).mean())[:, FIRST:LAST]
    at = np.arange(FIRST, LAST, EVERY)
    alive = np.asarray(calm.alive)[:, at].reshape(-1)
    beliefs, carries = jax.tree.map(lambda x: x[:, at].reshape(-1, *x.shape[2:]), (calm.belief, calm.carry))
    said, lives = map(np.asarray, imagined(world, policy, beliefs, carries, jr.fold_in(key, 1)))
    reward = np.asarray(calm.reward)
    rows = []
    for horizon in HORIZONS:
        real = sum(discount**h * reward[:, at + h] for h in range(horizon)).reshape(-1)
        rows.append(
            {
                "steps": horizon,
                "real": float(real[alive].mean()),
                "imagined": float(said[alive, horizon - 1].mean()),
                "imagined_alive": float(lives[alive, horizon - 1].mean()),
            }
        )
    return {
        "value": float(value[np.asarray(calm.alive)[:, FIRST:LAST]].mean()),
        "noises": noises,
        "horizons": rows,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="with a world model whose latent is the observation")
    parser.add_argument("others", type=Path, nargs="*", help="runs of policies with the same observation")
    parser.add_argument("--checkpoint", type=Path, help="of the first run; default: its newest")
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--output", type=Path, default=ROOT / "results/crossed")
    options = parser.parse_args()
    loaded = LoadedRun.load(options.run, print, options.checkpoint)
    if loaded.state is None or not loaded.agent.config.world_model.has_plain_latent:
        raise SystemExit(
            f"{options.run}: give a run, not a shipped policy, whose latent is the observation itself"
        )
    policies = {options.run.name: loaded.policy}  # what acts: with ema_rate the average of the parameters
    for folder in options.others:
        other = load_agent(folder, which="latest", warn=print)
        if other.experiment.build_env().spec.obs_shape != loaded.agent.spec.obs_shape:
            raise SystemExit(f"{folder} observes something else than {options.run}")
        policies[folder.name] = other.policy
    found = {}
    for name, policy in policies.items():
        found[name] = measure(loaded, policy, options.episodes, jr.key(0))
        print(f"{name}: value {found[name]['value']:.1f}")
        for row in found[name]["noises"]:
            print(f"  noise {row['noise']:.2f}: {row['survived']:.0%} survive, return {row['return']}")
        for row in found[name]["horizons"]:
            print(
                f"  {row['steps']:3d} steps: real {row['real']:.2f}, imagined {row['imagined']:.2f}, "
                f"alive {row['imagined_alive']:.0%}"
            )
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / f"{options.run.name}.json"
    about = {"run": options.run.name, "task": loaded.experiment.name.task, "env_steps": loaded.env_steps}
    write_json(file, {**about, "episodes": options.episodes, "policies": found, **provenance()})
    print(f"written: {file}")


if __name__ == "__main__":
    main()
