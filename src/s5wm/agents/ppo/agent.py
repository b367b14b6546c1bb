"""Proximal policy optimisation (Schulman et al. 2017), the model-free baseline.

Its critic may read the privileged state instead of the observation ("asymmetric"); it shares nothing with the actor,
which may see images and remember what came before (``actor``).  Truncated episodes bootstrap from the value
of their final observation, which has a time step of its own.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float

from s5wm.actions import Box
from s5wm.agents.base import AbstractAgent, MetricSums, NonFiniteGuard, is_finite, tree_where
from s5wm.agents.optimiser import clip_norms, untyped
from s5wm.agents.ppo.actor import (
    ActorSizes,
    MemoryConfig,
    PolicyExtras,
    PPOActor,
    TanhMLP,
    action_distribution,
    build_actor,
    normalised,
)
from s5wm.agents.ppo.policy import PPOPolicy
from s5wm.nn.conv import ImageConfig, PatchConfig
from s5wm.ops.batches import shard_batch
from s5wm.ops.returns import gae
from s5wm.ops.running import RunningMoments
from s5wm.types import EnvSpec, Key, Metrics, MixedObs, Obs, Scalar, TimeStep, Transition, array_of


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Defaults fly ``race/split-s`` with 256 environments and rollouts of 64 steps."""

    units: int = 128
    layers: int = 2
    log_std_init: float = -0.5
    log_std_min: float = -2.0  # without a floor the spread shrinks until every update breaks the trust region
    log_std_final: float | None = field(default=None, metadata={"since": "sinking floor"})
    """Final value of ``log_std_min``, reached as the learning rates fall to zero; None: constant."""
    critic_inputs: Literal["obs", "privileged"] = "obs"
    memory: MemoryConfig | None = None  # of the actor
    image: ImageConfig = field(default_factory=PatchConfig)  # of the actor, where observations are images
    discount: float = 0.99
    lambda_: float = 0.95
    clip: float = 0.2
    entropy: float = 0.0
    value_weight: float = 0.5
    learning_rate: float = 5e-4  # the largest; ``target_kl`` lowers it
    target_kl: float = 0.01  # per minibatch, between the policy that collected and the one that learns
    max_grad_norm: float = 0.5
    epochs: int = 5
    minibatches: int = 8

    def __post_init__(self) -> None:
        for name in ("units", "layers", "epochs", "minibatches", "learning_rate", "target_kl"):
            if getattr(self, name) <= 0:
                raise ValueError(f"ppo.{name} is {getattr(self, name)}; it must be positive")
        if self.log_std_init < self.log_std_min:
            raise ValueError(
                f"ppo.log_std_init is {self.log_std_init}, below ppo.log_std_min {self.log_std_min}; "
                "begin above the floor"
            )
        if self.log_std_final is not None and self.log_std_final > self.log_std_min:
            raise ValueError(
                f"ppo.log_std_final is {self.log_std_final}, above ppo.log_std_min {self.log_std_min}; the floor "
                "can only sink: choose a lower one, or None to keep it"
            )
        for name in ("discount", "lambda_"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"ppo.{name} is {getattr(self, name)}; it must lie in [0, 1]")

    def build(self, spec: EnvSpec, *, num_envs: int = 1) -> "PPO":
        """The agent for environments of this spec; ``num_envs`` is not used."""
        del num_envs
        if self.critic_inputs == "privileged" and spec.privileged_size == 0:
            raise ValueError(
                "ppo.critic_inputs is 'privileged', but this environment has no privileged vector: use 'obs' "
                "(agent ppo)"
            )
        if spec.has_images and self.critic_inputs == "obs":
            raise ValueError(
                f"ppo.critic_inputs is 'obs', but this task shows images of {spec.obs_shape} and the critic reads "
                "vectors: use 'privileged'"
            )
        return PPO(self, spec)

    @property
    def segment_length(self) -> int:
        """Length of a training segment in time steps."""
        return 1 if self.memory is None else self.memory.rows


class PPOParams(eqx.Module):
    """Everything that gradients change."""

    actor: PPOActor
    log_std: Float[Array, " A"] | None  # None: actions are choices
    critic: TanhMLP


class PPOLearner(eqx.Module):
    """Parameters, optimiser and input statistics."""

    params: PPOParams
    opt_state: optax.OptState
    learning_rate: Scalar
    obs_moments: RunningMoments | None
    critic_moments: RunningMoments
    guard: NonFiniteGuard


class Samples(eqx.Module):
    """``M`` training segments of ``W`` time steps, ``[M, W, ...]``; ``weight`` is 0 where the action was ignored."""

    carry: Any  # [M, ...], memory of the actor before the first time step
    obs: Obs
    is_first: Bool[Array, "*b"]
    critic_obs: Float[Array, "*b X"]
    action: Float[Array, "*b A"]
    log_prob: Float[Array, "*b"]
    advantage: Float[Array, "*b"]
    target: Float[Array, "*b"]
    weight: Float[Array, "*b"]


Learning = tuple[PPOParams, optax.OptState, Scalar, NonFiniteGuard]  # with the learning rate


class PPO(AbstractAgent[PPOLearner, Any, PolicyExtras]):
    """The agent."""

    config: PPOConfig = eqx.field(static=True)
    spec: EnvSpec

    @property
    def _optimiser(self) -> optax.GradientTransformation:
        # Apart, because the critic's gradient grows with rewards, and would leave the actor none.
        clip = clip_norms(self.config.max_grad_norm, apart="critic")
        return optax.chain(clip, optax.scale_by_adam(eps=1e-5))

    @property
    def _critic_size(self) -> int:
        privileged = self.config.critic_inputs == "privileged"
        return self.spec.privileged_size if privileged else self.spec.obs_shape[0]

    @property
    def _numbers(self) -> int:
        """Numbers in an observation, beside an image or alone."""
        return self.spec.vector_size if self.spec.has_images else self.spec.obs_shape[0]

    def init(self, key: Key) -> PPOLearner:
        """Fresh parameters."""
        k_actor, k_critic = jr.split(key)
        hidden = (self.config.units,) * self.config.layers
        params = PPOParams(
            build_actor(
                self.config.memory, ActorSizes(hidden=hidden, image=self.config.image), self.spec, key=k_actor
            ),
            jnp.full(self.spec.action_size, self.config.log_std_init)
            if isinstance(self.spec.action, Box)
            else None,
            TanhMLP((self._critic_size, *hidden, 1), out_scale=1.0, key=k_critic),
        )
        return PPOLearner(
            params,
            self._optimiser.init(untyped(params)),
            jnp.asarray(self.config.learning_rate),
            RunningMoments.init(self._numbers) if self._numbers else None,
            RunningMoments.init(self._critic_size),
            NonFiniteGuard.init(),
        )

    def policy(self, learner: PPOLearner) -> PPOPolicy:
        """The current policy with its input statistics."""
        return PPOPolicy(learner.params.actor, learner.params.log_std, learner.obs_moments, self.spec.action)

    def debug_state(self, learner: PPOLearner) -> Any:
        """The input statistics; rollouts are not kept."""
        return (learner.obs_moments, learner.critic_moments)

    def _critic_obs(self, timestep: TimeStep) -> Array:
        return timestep.state if self.config.critic_inputs == "privileged" else array_of(timestep.obs)

    def update(
        self,
        learner: PPOLearner,
        rollout: Transition[PolicyExtras],
        *,
        smoothing_weight: Scalar,
        key: Key,
    ) -> tuple[PPOLearner, MetricSums]:
        """Epochs of minibatches over one rollout; its last time step only serves as bootstrap."""
        samples = self._samples(learner, rollout, smoothing_weight)
        (params, opt_state, rate, guard), metrics = self._epochs(learner, samples, key)
        moments = learner.obs_moments
        moved = PPOLearner(
            params,
            opt_state,
            rate,
            None if moments is None else moments.update(_numbers_of(rollout.timestep.obs)),
            learner.critic_moments.update(self._critic_obs(rollout.timestep)),
            guard,
        )
        return moved, metrics

    def _samples(
        self, learner: PPOLearner, rollout: Transition[PolicyExtras], smoothing_weight: Scalar
    ) -> Samples:
        timestep = rollout.timestep
        critic_obs = learner.critic_moments.normalise(self._critic_obs(timestep))
        value = jax.vmap(jax.vmap(learner.params.critic))(critic_obs)[..., 0]
        advantage = jax.vmap(
            lambda r, v, last, terminal: gae(
                r, v, last, terminal, discount=self.config.discount, lambda_=self.config.lambda_
            )
        )(timestep.reward.total(smoothing_weight), value, timestep.is_last, timestep.is_terminal)
        length = self.config.segment_length
        count = advantage.shape[1] // length  # per environment

        def segments(x: Array) -> Array:
            return x[:, : count * length].reshape(-1, length, *x.shape[2:])

        return Samples(
            jax.tree.map(lambda x: segments(x)[:, 0], rollout.extras.carry),
            jax.tree.map(segments, normalised(learner.obs_moments, timestep.obs)),
            segments(timestep.is_first),
            segments(critic_obs),
            segments(rollout.action),
            segments(rollout.extras.log_prob),
            segments(advantage),
            segments(advantage + value[:, :-1]),
            segments(1.0 - timestep.is_last.astype(jnp.float32)),
        )

    def _epochs(self, learner: PPOLearner, samples: Samples, key: Key) -> tuple[Learning, MetricSums]:
        config, total = self.config, samples.weight.shape[0]
        size = total // config.minibatches

        def minibatch(carry: Learning, index: Array) -> tuple[Learning, MetricSums]:
            params, opt_state, rate, guard = carry
            batch = shard_batch(jax.tree.map(lambda x: x[index], samples))
            grads, metrics = jax.grad(self._loss, has_aux=True)(params, batch)
            rate = self._adapt(rate, metrics["policy/kl"])
            updates, opt_state = self._optimiser.update(grads, opt_state, untyped(params))
            moved = jax.tree.map(lambda x, u: x - guard.factor * rate * u, params, updates)
            params = self._floored(moved, guard.schedule)
            healthy = is_finite((grads, metrics))
            moved = tree_where(healthy, (params, opt_state, rate), carry[:3])
            metrics |= {"learning_rate": rate * guard.factor}
            return (*moved, guard.count(healthy)), MetricSums.of(metrics, healthy)

        order = jax.vmap(lambda k: jr.permutation(k, total))(jr.split(key, config.epochs))
        index = order[:, : size * config.minibatches].reshape(-1, size)
        begin = (learner.params, learner.opt_state, learner.learning_rate, learner.guard)
        learned, metrics = jax.lax.scan(minibatch, begin, index)
        return learned, metrics.total()

    def _floored(self, params: PPOParams, schedule: Scalar) -> PPOParams:
        """The parameter itself is kept above the floor, so that its gradient can still lift it from there.

        The floor sinks with the schedule of the learning rates: a policy that is judged by its mean has to learn what
        its mean does, and a loud one learns only what its noise does.
        """
        if params.log_std is None:
            return params
        highest, lowest = self.config.log_std_min, self.config.log_std_final
        floor = highest if lowest is None else lowest + (highest - lowest) * schedule
        floored = jnp.maximum(params.log_std, floor)
        return eqx.tree_at(lambda p: p.log_std, params, floored)

    def _adapt(self, rate: Scalar, kl: Scalar) -> Scalar:
        """A factor 1.5 down where ``kl`` is above twice its target, up below half (Rudin et al. 2021)."""
        target = self.config.target_kl
        factor = jnp.where(kl > 2.0 * target, 1.0 / 1.5, jnp.where(kl < 0.5 * target, 1.5, 1.0))
        return jnp.clip(rate * factor, 1e-2 * self.config.learning_rate, self.config.learning_rate)

    def _loss(self, params: PPOParams, batch: Samples) -> tuple[Scalar, Metrics]:
        """Clipped surrogate + value regression - entropy."""
        config, weight = self.config, batch.weight / jnp.maximum(batch.weight.sum(), 1.0)
        mean = jnp.sum(weight * batch.advantage)
        spread = jnp.sqrt(jnp.sum(weight * jnp.square(batch.advantage - mean)))
        advantage = (batch.advantage - mean) / (spread + 1e-8)

        out = jax.vmap(params.actor.segment)(batch.carry, batch.obs, batch.is_first)
        dist = action_distribution(self.spec.action, out, params.log_std)
        log_ratio = dist.log_prob(batch.action) - batch.log_prob
        ratio = jnp.exp(log_ratio)
        clipped = jnp.clip(ratio, 1 - config.clip, 1 + config.clip)
        policy_loss = -jnp.sum(weight * jnp.minimum(ratio * advantage, clipped * advantage))
        value = jax.vmap(jax.vmap(params.critic))(batch.critic_obs)[..., 0]
        value_loss = 0.5 * jnp.sum(weight * jnp.square(value - batch.target))
        entropy = jnp.sum(weight * dist.entropy())
        loss = policy_loss + config.value_weight * value_loss - config.entropy * entropy
        metrics = {
            "loss/policy": policy_loss,
            "loss/value": value_loss,
            "policy/entropy": entropy,
            "policy/kl": jnp.sum(weight * (ratio - 1.0 - log_ratio)),
            "policy/clipped": jnp.sum(weight * (jnp.abs(ratio - 1) > config.clip)),
            "advantage/std": spread,
        }
        return loss, metrics


def _numbers_of(obs: Obs) -> Float[Array, "*b O"]:
    return jnp.asarray(obs.vector) if isinstance(obs, MixedObs) else obs
