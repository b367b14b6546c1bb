"""A world model that knows the double integrator exactly, made of our own networks with weights set by hand."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from s5wm.agents.dreamer.agent import Dreamer, DreamerConfig, DreamerLearner
from s5wm.agents.dreamer.heads import ActorConfig, CriticConfig
from s5wm.agents.dreamer.stored import to_chunk
from s5wm.agents.replay import ReplayConfig
from s5wm.envs.toys import DoubleIntegratorConfig
from s5wm.envs.wrappers import AutoReset
from s5wm.nn.mlp import MLP
from s5wm.nn.s5 import S5Config
from s5wm.training.loop import unroll
from s5wm.training.state import init_actor
from s5wm.types import Reward, Transition
from s5wm.worldmodel.config import BinsConfig, WorldModelConfig
from s5wm.worldmodel.latent import GaussianConfig

DT = 0.1
STEPS = 9  # of an episode: too few to reach a wall
ENVS, LENGTH, HORIZON = 6, 32, 12

CONFIG = DreamerConfig(
    world_model=WorldModelConfig(
        core=S5Config(width=8, state_size=16, layers=1),
        latent=GaussianConfig(width=2, min_std=1e-9),
        units=8,
        encoder_layers=1,
        decoder_layers=1,
        prior_layers=1,
        linear_skips=True,
        prior_sees_inputs=True,
        symlog_inputs=False,
        bins=BinsConfig(count=21, limit=2.0),
    ),
    actor=ActorConfig(units=8, layers=1),
    critic=CriticConfig(units=8, layers=1, bins=21, limit=2.0),
    replay=ReplayConfig(capacity=66, batch=2, length=8),
)


def linear(network: MLP, weight: jax.Array, bias: float) -> MLP:
    """The same network, computing ``weight x`` with ``bias`` on the second half of the outputs."""
    assert network.skip is not None
    out = jax.tree.map(jnp.zeros_like, network.out)
    half = weight.shape[0] // 2
    skip = eqx.tree_at(
        lambda s: (s.weight, s.bias), network.skip, (weight, jnp.repeat(jnp.asarray([0.0, bias]), half))
    )
    return eqx.tree_at(lambda n: (n.out, n.skip), network, (out, skip))


def selection(outputs: int, inputs: int, entries: dict[tuple[int, int], float]) -> jax.Array:
    """A matrix of zeros but for the entries."""
    weight = jnp.zeros((outputs, inputs))
    for place, value in entries.items():
        weight = weight.at[place].set(value)
    return weight


def fill(template: Any) -> Any:
    """Arrays for a tree of shapes: small numbers drawn by NumPy, which compiles nothing; keys, flags, counts zero."""
    rng = np.random.default_rng(0)

    def leaf(shape: jax.ShapeDtypeStruct) -> jax.Array:
        if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
            return jr.key(0)
        if not jnp.issubdtype(shape.dtype, jnp.floating):
            return jnp.zeros(shape.shape, shape.dtype)
        return jnp.asarray(0.3 * rng.normal(size=shape.shape), shape.dtype)

    return jax.tree.map(leaf, template)


def make_learner(agent: Dreamer) -> DreamerLearner:
    """Any parameters, but a core that is stable."""
    learner = fill(jax.eval_shape(agent.init, jr.key(0)))
    config = agent.config.world_model.core
    core = jax.jit(lambda key: config.build(config.inputs, key=key))(jr.key(0))
    return eqx.tree_at(lambda x: x.params.world_model.dynamics.sequence.core, learner, core)


def make_oracle(learner: DreamerLearner) -> DreamerLearner:
    """Latent = observation, prior = the exact integrator without spread, reward head anything but constant."""
    width, tight = 8, -200.0
    position, velocity, force = width, width + 1, width + 2  # what the prior reads behind h
    step = {(0, velocity): DT, (0, force): DT**2 / 2, (1, force): DT}
    model = learner.params.world_model
    dynamics = model.dynamics
    rng = np.random.default_rng(5)
    networks = (
        linear(model.encoder.network, selection(8, 2, {(0, 0): 1.0, (1, 1): 1.0}), 0.0),
        linear(dynamics.posterior_head, selection(4, 8, {(0, 0): 1.0, (1, 1): 1.0}), tight),
        linear(dynamics.sequence.prior_head, selection(4, width + 3, step), tight),
        linear(model.decoder, selection(2, width + 2, {(0, position): 1.0, (1, velocity): 1.0}), 0.0),
        jnp.asarray(3.0 * rng.normal(size=model.reward_nominal.out.weight.shape), jnp.float32),
        jnp.asarray(4.0 * rng.normal(size=model.cont.out.weight.shape), jnp.float32),
    )
    model = eqx.tree_at(
        lambda m: (
            m.encoder.network,
            m.dynamics.posterior_head,
            m.dynamics.sequence.prior_head,
            m.decoder,
            m.reward_nominal.out.weight,
            m.cont.out.weight,
        ),
        model,
        networks,
    )
    return eqx.tree_at(lambda x: x.params.world_model, learner, model)


def collect() -> tuple[Dreamer, DreamerLearner, Transition]:
    """The oracle and real flights whose rewards and terminal flags are what it says of the true state."""
    env = AutoReset(DoubleIntegratorConfig(steps=STEPS, ctrl_dt=DT).build())
    agent = CONFIG.build(env.spec, num_envs=ENVS)

    learner = make_oracle(make_learner(agent))

    @jax.jit
    def run(learner: DreamerLearner) -> Transition:
        policy = agent.policy(learner)
        actor = init_actor(env, policy, ENVS, key=jr.key(1))
        rows = unroll(env, policy, actor, length=LENGTH + 1, key=jr.key(2))[1]
        model = learner.params.world_model
        chunk = to_chunk(rows)
        out = jax.vmap(lambda c: model.observe(c, noise=None))(chunk)
        said = model.predict(out.belief.latent.feature)
        step = chunk.timestep
        doubt = jnp.where(step.is_first, 1.0, said.cont)
        terminal = doubt < jnp.quantile(doubt, 0.2)
        nominal = jnp.where(step.is_first, 0.0, said.reward_nominal)
        padded = (jnp.pad(nominal, ((0, 0), (1, 0))), jnp.pad(terminal, ((0, 0), (1, 0))))
        timestep = eqx.tree_at(
            lambda s: (s.reward, s.is_terminal),
            rows.timestep,
            (Reward(padded[0], jnp.zeros_like(padded[0])), padded[1]),
        )
        return eqx.tree_at(lambda r: r.timestep, rows, timestep)

    return agent, learner, run(learner)
