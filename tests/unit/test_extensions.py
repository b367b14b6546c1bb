"""CONTRIBUTING, "Add an agent", "a core", "a loss term": one of each, from outside the package, takes an update."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import optax
import pytest

from s5wm.agents.base import (
    AbstractAgent,
    AbstractPolicy,
    MetricSums,
    NonFiniteGuard,
    is_finite,
    tree_where,
)
from s5wm.agents.optimiser import untyped
from s5wm.agents.replay import Replay
from s5wm.envs.probes import ObsActionReward
from s5wm.envs.wrappers import AutoReset
from s5wm.nn.core import AbstractCore
from s5wm.nn.mlp import MLP, Linear
from s5wm.training.loop import train
from s5wm.training.state import init_train
from s5wm.types import EnvSpec, Transition
from s5wm.worldmodel.chunk import LossOutput
from s5wm.worldmodel.config import PosteriorInput
from s5wm.worldmodel.model import WorldModel

from ..tiny import S5WM, learning

ENVS, LENGTH = 4, 8
ENV = AutoReset(ObsActionReward())


class Nothing(eqx.Module):
    """What a policy without a memory remembers."""


class SquashedPolicy(AbstractPolicy[Nothing, Nothing]):
    """``tanh`` of a normal sample; of the mean, where it is judged."""

    network: MLP

    def initial(self):
        return Nothing()

    def __call__(self, carry, obs, is_first, *, key):
        action, _ = squashed(self.network, obs, None if key is None else jr.normal(key, (1,)))
        return carry, action, Nothing()


def squashed(network, obs, noise):
    """An action of ``(-1, 1)`` and its log density."""
    mean, raw = jnp.split(network(obs), 2, axis=-1)
    log_std = 3.0 * jnp.tanh(raw) - 2.0
    z = jnp.zeros_like(mean) if noise is None else noise
    action = jnp.tanh(mean + jnp.exp(log_std) * z)
    density = -0.5 * z**2 - log_std - 0.5 * jnp.log(2 * jnp.pi) - jnp.log1p(1e-6 - action**2)
    return action, density.sum(-1)


class SACParams(eqx.Module):
    actor: MLP
    critics: tuple[MLP, MLP]


class SACLearner(eqx.Module):
    params: SACParams
    targets: tuple[MLP, MLP]
    opt_state: optax.OptState
    replay: Replay
    guard: NonFiniteGuard


@dataclass(frozen=True, kw_only=True)
class SACConfig:
    """A soft actor-critic (Haarnoja et al. 2018) with a temperature that stays."""

    units: int = 8
    capacity: int = 32
    batch: int = 16
    discount: float = 0.9
    tau: float = 0.25
    temperature: float = 0.1
    learning_rate: float = 1e-2

    def build(self, spec: EnvSpec, *, num_envs: int) -> "SAC":
        return SAC(self, spec, num_envs)


class SAC(AbstractAgent[SACLearner, Nothing, Nothing]):
    config: SACConfig = eqx.field(static=True)
    spec: EnvSpec
    num_envs: int = eqx.field(static=True)

    @property
    def _optimiser(self):
        return optax.scale_by_adam()

    def init(self, key):
        k_actor, k_first, k_second = jr.split(key, 3)
        size, actions, units = self.spec.obs_shape[0], self.spec.action_size, self.config.units
        critics = tuple(MLP((size + actions, units), 1, key=k) for k in (k_first, k_second))
        params = SACParams(MLP((size, units), 2 * actions, key=k_actor), critics)
        _, step = ENV.reset(key)
        row = Transition(step, jnp.zeros(actions), Nothing())
        return SACLearner(
            params,
            critics,
            self._optimiser.init(untyped(params)),
            Replay.init(row, self.num_envs, self.config.capacity),
            NonFiniteGuard.init(),
        )

    def policy(self, learner):
        return SquashedPolicy(learner.params.actor)

    def debug_state(self, learner):
        return learner.replay

    def update(self, learner, rollout, *, smoothing_weight, key):
        k_draw, k_loss = jr.split(key)
        replay = learner.replay.add(rollout)
        windows = replay.draw(k_draw, batch=self.config.batch, length=2)
        rows = replay.read(windows, length=2)
        grads, metrics = jax.grad(self._loss, has_aux=True)(
            learner.params, learner.targets, rows, smoothing_weight, k_loss
        )
        steps, opt_state = self._optimiser.update(grads, learner.opt_state, untyped(learner.params))
        rate = self.config.learning_rate * learner.guard.factor
        params = jax.tree.map(lambda x, u: x - rate * u, learner.params, steps)
        targets = optax.incremental_update(params.critics, learner.targets, self.config.tau)
        healthy = is_finite((grads, metrics))
        old = (learner.params, learner.targets, learner.opt_state)
        moved = tree_where(healthy, (params, targets, opt_state), old)
        return SACLearner(*moved, replay, learner.guard.count(healthy)), MetricSums.of(metrics, healthy)

    def _loss(self, params, targets, rows, smoothing_weight, key):
        k_now, k_next = jr.split(key)
        obs, following = rows.timestep.obs[:, 0], rows.timestep.obs[:, 1]
        noise = jr.normal(k_now, rows.action[:, 0].shape)
        action, log_prob = squashed(params.actor, obs, noise)
        after, log_after = squashed(params.actor, following, jr.normal(k_next, noise.shape))
        value = least(targets, following, after) - self.config.temperature * log_after
        goes_on = 1.0 - rows.timestep.is_terminal[:, 1].astype(jnp.float32)
        reward = rows.timestep.reward.total(smoothing_weight)[:, 1]
        target = jax.lax.stop_gradient(reward + self.config.discount * goes_on * value)
        counts = 1.0 - rows.timestep.is_last[:, 0].astype(jnp.float32)  # else the action was ignored
        errors = [q(joined(obs, rows.action[:, 0]))[..., 0] - target for q in params.critics]
        critic = sum((counts * error**2).mean() for error in errors)
        frozen = jax.lax.stop_gradient(params.critics)
        actor = (counts * (self.config.temperature * log_prob - least(frozen, obs, action))).mean()
        return critic + actor, {"loss/critic": critic, "loss/actor": actor}


def joined(obs, action):
    return jnp.concatenate([obs, action], axis=-1)


def least(critics, obs, action):
    return jnp.minimum(*(q(joined(obs, action))[..., 0] for q in critics))


def moved(before, after) -> float:
    """The largest change of a parameter."""
    changes = jax.tree.map(lambda x, y: float(np.abs(np.asarray(x) - np.asarray(y)).max()), before, after)
    return max(jax.tree.leaves(changes))


def test_an_agent_from_outside_learns_in_the_compiled_loop():
    agent = SACConfig().build(ENV.spec, num_envs=ENVS)
    before = jax.device_get(init_train(ENV, agent, ENVS, 0).learner)
    state, metrics, _ = train(ENV, agent, init_train(ENV, agent, ENVS, 0), length=LENGTH, iterations=1)
    learner = jax.device_get(state.learner)
    assert moved(before.params.actor, learner.params.actor) == pytest.approx(
        1e-2, rel=1e-2
    )  # Adam's first step
    assert moved(before.params.critics, learner.params.critics) == pytest.approx(1e-2, rel=1e-2)
    assert moved(before.targets, learner.targets) == pytest.approx(2.5e-3, rel=1e-2)
    assert learner.replay.filled == LENGTH and learner.guard.skipped == 0
    assert set(metrics.means) == {"loss/actor", "loss/critic"}


@dataclass(frozen=True, kw_only=True)
class GatedConfig:
    """A gated linear recurrence, ``x_t = f(u_t) x_{t-1} + (1 - f(u_t)) W u_t``."""

    width: int
    unroll: int = 1

    @property
    def inputs(self) -> int:
        return self.width

    def build(self, inputs: int, *, key):
        k_gate, k_value = jr.split(key)
        return Gated(Linear(inputs, self.width, key=k_gate), Linear(inputs, self.width, key=k_value))


class Gated(AbstractCore[jax.Array]):
    gate: Linear
    value: Linear

    def initial(self):
        return jnp.zeros(self.gate.bias.shape)

    def step(self, memory, u, is_first):
        keep = jax.nn.sigmoid(self.gate(u))
        x = keep * jnp.where(is_first, 0.0, memory) + (1.0 - keep) * self.value(u)
        return x, x

    def scan(self, memory, u, is_first):
        keep = jax.nn.sigmoid(self.gate(u))
        factor = jnp.where(is_first[:, None], 0.0, keep)
        addend = ((1.0 - keep) * self.value(u)).at[0].add(factor[0] * memory)
        x = jax.lax.associative_scan(lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1]), (factor, addend))[1]
        return x, x


class Weighed(WorldModel):
    """A world model that also pays for large features."""

    def loss(self, chunk, *, noise):
        total, out = super().loss(chunk, noise=noise)
        size = (out.posterior.belief.latent.feature**2).mean()
        return total + 0.5 * size, LossOutput(out.posterior, out.metrics | {"loss/size": 0.5 * size})


def test_a_core_from_outside_keeps_the_laws_of_cores():
    core = GatedConfig(width=5).build(3, key=jr.key(0))
    memory, u = jr.normal(jr.key(1), (5,)), jr.normal(jr.key(2), (7, 3))
    is_first = jnp.arange(7) == 4
    memories, outputs = core.scan(memory, u, is_first)
    x = memory
    for t in range(7):
        x, y = core.step(x, u[t], is_first[t])
        np.testing.assert_allclose(memories[t], x, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(outputs[t], y, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(core.scan(memory + 1.0, u, is_first)[1][4:], outputs[4:])


@pytest.fixture
def as_users_run_it(monkeypatch):
    """Without the checks of types that tests add: the union of cores, the list of those that files may name, is one."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


class Updated(NamedTuple):
    before: WorldModel
    after: WorldModel
    metrics: dict[str, float]


def one_update(posterior: PosteriorInput, *, is_weighed: bool) -> Updated:
    """Of a world model with the core from outside, and with the term from outside where ``is_weighed``."""
    world_model = replace(S5WM.world_model, core=GatedConfig(width=4), posterior=posterior)
    agent = learning(replace(S5WM, world_model=world_model)).build(ENV.spec, num_envs=ENVS)
    state = init_train(ENV, agent, ENVS, 0)
    if is_weighed:
        params = state.learner.params
        params = replace(params, world_model=Weighed(**vars(params.world_model)))
        opt_state = jax.jit(agent.config.optimiser.build().init)(params)
        state = replace(state, learner=replace(state.learner, params=params, opt_state=opt_state))
    before = jax.device_get(state.learner.params.world_model)
    state, metrics, _ = train(ENV, agent, state, length=LENGTH, iterations=2)
    return Updated(before, jax.device_get(state.learner.params.world_model), metrics.means)


@pytest.mark.faults  # with the term from outside below, in less time
@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("posterior", list(PosteriorInput))
def test_a_core_from_outside_is_trained(posterior):
    update = one_update(posterior, is_weighed=False)
    core = (update.before.dynamics.sequence.core, update.after.dynamics.sequence.core)
    assert isinstance(core[1], Gated) and moved(*core) > 0.0
    assert np.isfinite(update.metrics["loss/dyn"]) and "loss/size" not in update.metrics


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_run_it")
def test_a_loss_term_from_outside_is_in_the_loss_and_in_the_log_and_a_core_is_trained():
    update = one_update(PosteriorInput.OBSERVATION, is_weighed=True)
    core = (update.before.dynamics.sequence.core, update.after.dynamics.sequence.core)
    assert isinstance(core[1], Gated) and moved(*core) > 0.0 and np.isfinite(update.metrics["loss/dyn"])
    assert isinstance(update.after, Weighed) and moved(update.before, update.after) > 0.0
    assert update.metrics["loss/size"] > 0.0
