"""A world-model agent with any core and posterior: replay, world model, and an actor-critic that learns inside it."""

from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Int

from s5wm.agents.base import AbstractAgent, MetricSums, NonFiniteGuard, is_finite, tree_where, zeros_of
from s5wm.agents.dreamer.heads import Actor, ActorConfig, Critic, CriticConfig
from s5wm.agents.dreamer.imagination import (
    ActorCriticConfig,
    Networks,
    actor_loss,
    critic_loss,
    imagine_rollouts,
    replay_critic_loss,
)
from s5wm.agents.dreamer.policy import DreamerCarry, DreamerPolicy
from s5wm.agents.dreamer.stored import (
    SkippedBatch,
    StoredLatent,
    Transitions,
    fresh_latents,
    stored_latents,
    to_chunk,
)
from s5wm.agents.optimiser import OptimiserConfig, untyped
from s5wm.agents.replay import Replay, ReplayConfig, Windows
from s5wm.ops.batches import shard_batch
from s5wm.ops.running import ReturnScale
from s5wm.types import EnvSpec, Key, Metrics, Reward, Scalar, TimeStep, Transition
from s5wm.worldmodel.build import build_world_model
from s5wm.worldmodel.chunk import Chunk, LossOutput
from s5wm.worldmodel.config import WorldModelConfig
from s5wm.worldmodel.dynamics import Belief
from s5wm.worldmodel.model import WorldModel, batch_loss
from s5wm.worldmodel.privileged_state import PrivilegedStateConfig


@dataclass(frozen=True, kw_only=True)
class DreamerConfig:
    """A world-model agent; ``presets`` holds S5WM and its relatives at each size."""

    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    actor_critic: ActorCriticConfig = field(default_factory=ActorCriticConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    discount_horizon: float = 333.0  # discount = 1 - 1 / horizon
    updates_per_rollout: int = 1
    actor_critic_warmup: int = 0  # updates of the world model before actor and critic start to learn
    replay_gradient: bool = True  # whether the replay critic loss trains the world model too
    ema_rate: float | None = None  # of the average of parameters that acts; None: the latest ones act
    ema_start: int = 0  # updates before the average begins: what still learns fast is better without

    def __post_init__(self) -> None:
        if self.discount_horizon <= 1:
            raise ValueError(f"discount_horizon is {self.discount_horizon} steps; it must exceed 1")
        if self.updates_per_rollout < 1:
            raise ValueError(f"updates_per_rollout is {self.updates_per_rollout}; it must be at least 1")
        if self.ema_start < 0:
            raise ValueError(f"ema_start is {self.ema_start}; it is a number of updates: give 0 or more")
        if self.ema_rate is not None and not 0.0 < self.ema_rate <= 1.0:
            raise ValueError(
                f"ema_rate is {self.ema_rate}; it must lie in (0, 1]: use 0.004 for the average of about 250 "
                "updates, or None to act with the latest parameters"
            )
        if self.replay_gradient and isinstance(self.world_model.latent, PrivilegedStateConfig):
            raise ValueError(
                "replay_gradient is true, but with PrivilegedStateConfig the critic's gradient would reach the "
                "dynamics through estimates, and they learn from states alone: set replay_gradient=false"
            )
        starts = self.actor_critic.num_imagination_starts
        if starts is not None and starts > self.replay.batch * self.replay.length:
            raise ValueError(
                f"actor_critic.num_imagination_starts is {starts}, more than the "
                f"{self.replay.batch * self.replay.length} states of a batch (replay.batch x replay.length); "
                "use None for all of them"
            )

    @property
    def discount(self) -> float:
        """``1 - 1 / discount_horizon``."""
        return 1.0 - 1.0 / self.discount_horizon

    def build_optimiser(self) -> optax.GradientTransformation:
        """That of all parameters; see ``OptimiserConfig.build``."""
        return self.optimiser.build(actor_critic_delay=self.actor_critic_warmup)

    def build(self, spec: EnvSpec, *, num_envs: int) -> "Dreamer":
        """The agent for ``num_envs`` environments of this spec."""
        self.world_model.check(spec)
        return Dreamer(self, spec, num_envs)


class DreamerParams(eqx.Module):
    """Trained parameters; each field is a group of the optimiser."""

    world_model: WorldModel[Any]
    actor: Actor
    critic: Critic


class DreamerLearner(eqx.Module):
    """State of learning."""

    params: DreamerParams
    slow_critic: Critic
    policy_ema: DreamerPolicy | None  # moving average of what acts
    opt_state: optax.OptState
    return_scale: ReturnScale
    replay: Replay[Transitions]
    updates: Int[Array, ""]
    guard: NonFiniteGuard
    skipped_batch: SkippedBatch


class Dreamer(AbstractAgent[DreamerLearner, DreamerCarry, StoredLatent[Any]]):
    """The agent."""

    config: DreamerConfig = eqx.field(static=True)
    spec: EnvSpec
    num_envs: int = eqx.field(static=True)

    def init(self, key: Key) -> DreamerLearner:
        """Fresh parameters and an empty replay."""
        k_model, k_actor, k_critic = jr.split(key, 3)
        config = self.config
        model = build_world_model(config.world_model, self.spec, discount=config.discount, key=k_model)
        features = model.dynamics.initial().latent.feature.shape[0]
        params = DreamerParams(
            model,
            config.actor.build(features, self.spec.action, key=k_actor),
            config.critic.build(features, key=k_critic),
        )
        return DreamerLearner(
            params,
            params.critic,
            None if config.ema_rate is None else latest_policy(params),
            config.build_optimiser().init(untyped(params)),
            ReturnScale.init(),
            Replay.init(self._example(params), self.num_envs, config.replay.capacity),
            jnp.zeros((), jnp.int32),
            NonFiniteGuard.init(),
            SkippedBatch.none(config.replay.batch),
        )

    def _example(self, params: DreamerParams) -> Transitions:
        zero, no = jnp.zeros(()), jnp.zeros((), bool)
        timestep = TimeStep(
            obs=self.spec.zero_obs(),
            privileged=jnp.zeros(self.spec.privileged_size) if self.spec.privileged_size else None,
            reward=Reward(zero, zero if self.spec.has_smoothing else None),
            is_first=no,
            is_last=no,
            is_terminal=no,
        )
        belief = params.world_model.dynamics.initial()
        entry = StoredLatent(belief.memory, belief.latent.stoch)
        return Transition(timestep, jnp.zeros(self.spec.action_size), entry)

    def policy(self, learner: DreamerLearner) -> DreamerPolicy:
        """Parameters of the policy: the latest, or their moving average."""
        return latest_policy(learner.params) if learner.policy_ema is None else learner.policy_ema

    def update(
        self,
        learner: DreamerLearner,
        rollout: Transitions,
        *,
        smoothing_weight: Scalar,
        key: Key,
    ) -> tuple[DreamerLearner, MetricSums]:
        """Append the rollout, then take ``updates_per_rollout`` gradient steps if the replay is filled enough."""
        config = self.config.replay
        learner = eqx.tree_at(lambda x: x.replay, learner, learner.replay.add(rollout))

        def step(learner: DreamerLearner, key: Key) -> tuple[DreamerLearner, MetricSums]:
            return self.gradient_step(learner, smoothing_weight, key)

        @jax.jit  # so that it is traced once, for its shapes and for itself
        def learn(learner: DreamerLearner) -> tuple[DreamerLearner, MetricSums]:
            learner, metrics = jax.lax.scan(step, learner, jr.split(key, self.config.updates_per_rollout))
            return learner, metrics.total()

        def wait(learner: DreamerLearner) -> tuple[DreamerLearner, MetricSums]:
            return learner, zeros_of(learn, learner)[1]

        filled = learner.replay.filled
        ready = (filled > config.length) & (filled * self.num_envs >= config.prefill)
        return jax.lax.cond(ready, learn, wait, learner)

    def debug_state(self, learner: DreamerLearner) -> Any:
        """The latest skipped gradient step, the number of the latest one, and the transitions that it had sampled.

        They are read from the replay now: if the two numbers are far apart, the ring has overwritten them.
        """
        if int(learner.skipped_batch.update) < 0:
            return None
        stored = learner.replay.read(learner.skipped_batch.windows, length=self.config.replay.length + 1)
        return learner.skipped_batch, learner.updates, stored

    def sample(self, replay: Replay[Transitions], key: Key) -> tuple[Windows, Transitions]:
        """Sample a batch of windows: their places and their transitions, the first of each being context."""
        config = self.config.replay
        length = config.length + 1
        windows = replay.draw(key, batch=config.batch, length=length)
        return windows, replay.read(windows, length=length)

    def gradient_step(
        self, learner: DreamerLearner, smoothing_weight: Scalar, key: Key
    ) -> tuple[DreamerLearner, MetricSums]:
        """One update of everything from one batch of replayed windows."""
        k_sample, k_loss = jr.split(key)
        windows, stored = self.sample(learner.replay, k_sample)
        chunk = shard_batch(to_chunk(stored))
        grads, (out, scale, metrics) = jax.grad(self._loss, has_aux=True)(
            learner.params, learner, chunk, smoothing_weight, k_loss
        )
        deltas, opt_state = self.config.build_optimiser().update(
            grads, learner.opt_state, untyped(learner.params)
        )
        params = jax.tree.map(lambda p, u: p + learner.guard.factor * u, learner.params, deltas)
        tau = self.config.actor_critic.tau
        slow = untyped(optax.incremental_update(untyped(params.critic), untyped(learner.slow_critic), tau))
        metrics |= {
            f"gradient/{name}": optax.tree.norm(getattr(grads, name))
            for name in ("world_model", "actor", "critic")
        }
        healthy = is_finite((grads, metrics))
        old = (learner.params, learner.slow_critic, learner.opt_state, learner.return_scale)
        params, slow, opt_state, scale = tree_where(healthy, (params, slow, opt_state, scale), old)
        entries = tree_where(healthy, fresh_latents(stored, out.posterior.belief), stored.extras)
        replay = learner.replay.write_back(windows, entries, at=stored_latents)
        guard = learner.guard.count(healthy)
        skipped = tree_where(healthy, learner.skipped_batch, SkippedBatch(windows, learner.updates))
        updates, policy_ema = learner.updates + 1, learner.policy_ema
        if policy_ema is not None and self.config.ema_rate is not None:
            count = jnp.maximum(updates - self.config.ema_start, 1)  # at 1 the latest ones take its place
            policy_ema = policy_ema.averaged_with(
                latest_policy(params), rate=self.config.ema_rate, count=count
            )
        learner = DreamerLearner(params, slow, policy_ema, opt_state, scale, replay, updates, guard, skipped)
        return learner, MetricSums.of(metrics, healthy)

    def _loss(
        self,
        params: DreamerParams,
        learner: DreamerLearner,
        chunk: Chunk[Any],
        smoothing_weight: Scalar,
        key: Key,
    ) -> tuple[Scalar, tuple[LossOutput[Any], ReturnScale, Metrics]]:
        """World-model loss, and actor and critic losses from the same posterior beliefs."""
        k_noise, k_actor_critic = jr.split(key)
        loss, out = batch_loss(params.world_model, chunk, k_noise)
        nets = Networks(params.world_model, params.actor, params.critic, learner.slow_critic)

        def learn(nets: Networks, belief: Belief[Any]) -> tuple[Scalar, ReturnScale, Metrics]:
            return self.actor_critic_loss(
                nets, learner.return_scale, belief, chunk.timestep, smoothing_weight, k_actor_critic
            )

        belief = out.posterior.belief
        if self.config.actor_critic_warmup:
            # Not a factor of zero, through which what is not finite would reach the world model.
            is_warm = learner.updates >= self.config.actor_critic_warmup
            zero, _, none = zeros_of(learn, nets, belief)
            actor_critic, scale, more = jax.lax.cond(
                is_warm, learn, lambda *_: (zero, learner.return_scale, none), nets, belief
            )
        else:
            actor_critic, scale, more = learn(nets, belief)
        metrics = jax.tree.map(jnp.mean, out.metrics) | more
        return loss + actor_critic, (*jax.lax.stop_gradient((out, scale)), metrics)

    def actor_critic_loss(
        self,
        nets: Networks,
        scale: ReturnScale,
        belief: Belief[Any],
        timestep: TimeStep,
        smoothing_weight: Scalar,
        key: Key,
    ) -> tuple[Scalar, ReturnScale, Metrics]:
        """Actor and critic losses from posterior beliefs ``[B, T]`` and the time steps they belong to."""
        config, stop_gradient = self.config.actor_critic, jax.lax.stop_gradient
        k_starts, k_roll = jr.split(key)
        flat = jax.tree.map(lambda x: stop_gradient(x.reshape(-1, *x.shape[2:])), belief)
        total = timestep.is_first.size
        index = jnp.arange(total)
        if config.num_imagination_starts is not None:
            index = jr.permutation(k_starts, total)[: config.num_imagination_starts]
        starts = shard_batch(jax.tree.map(lambda x: x[index], flat))
        rolled = imagine_rollouts(config, nets, starts, smoothing_weight=smoothing_weight, key=k_roll)
        scale = scale.update(stop_gradient(rolled.returns))
        actor, metrics = actor_loss(config, nets.actor, rolled, scale)
        critic = critic_loss(config, nets, rolled)

        feature = belief.latent.feature
        feature = feature if self.config.replay_gradient else stop_gradient(feature)
        value = stop_gradient(nets.critic(feature).mean())
        bootstrap = value.reshape(-1).at[index].set(stop_gradient(rolled.returns[:, 0])).reshape(value.shape)
        replayed, more = replay_critic_loss(
            config, nets, feature, timestep, bootstrap=bootstrap, smoothing_weight=smoothing_weight
        )
        loss = actor + config.critic_weight * critic + config.replay_critic_weight * replayed
        return loss, scale, metrics | more | {"loss/critic": critic}


def latest_policy(params: DreamerParams) -> DreamerPolicy:
    """The policy with these parameters."""
    model = params.world_model
    return DreamerPolicy(model.encoder, model.dynamics, params.actor)
