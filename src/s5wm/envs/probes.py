"""Probe environments with analytic values, each for one property of a learner.

Each probe adds one ability to the one before it.  All have a one-number observation and action, end in a
terminal step, and take ``smoothing = 0`` except ``ActionReward``.

=====================  =======================================================  ==========================
probe                  what a failure means                                     value, optimal action
=====================  =======================================================  ==========================
``ConstantReward``     the critic's loss or targets are wrong                   1, any
``ObsReward``          observations do not reach the critic                     o, any
``DelayedReward``      discounting or bootstrapping is wrong                    gamma then 1, any
``ActionReward``       the policy gradient (or the smoothing weight) is wrong   1 - w/(4(1+w)), 1/(2(1+w))
``ObsActionReward``    observations do not reach the policy                     0, o
=====================  =======================================================  ==========================
"""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from s5wm.actions import Box
from s5wm.envs.base import AbstractEnv, EnvSpec
from s5wm.types import EpisodeMetrics, Key, Reward, Scalar, TimeStep


class ProbeState(eqx.Module):
    """Random number of the episode, and the steps taken."""

    draw: Float[Array, ""]
    elapsed: Int[Array, ""]


class AbstractProbe(AbstractEnv[ProbeState]):
    """A probe of ``length`` steps, described by what it draws, shows and pays."""

    length: eqx.AbstractClassVar[int]

    @abstractmethod
    def draw(self, key: Key) -> Float[Array, ""]:
        """The random number of one episode."""

    @abstractmethod
    def observe(self, state: ProbeState) -> Float[Array, ""]:
        """The observation in a state."""

    @abstractmethod
    def reward(self, state: ProbeState, action: Float[Array, ""]) -> Reward:
        """Paid on leaving ``state`` by ``action`` (already clipped)."""

    @abstractmethod
    def value(self, obs: Float[Array, " 1"], discount: float, smoothing_weight: float = 0.0) -> Scalar:
        """Analytic value of the optimal policy at a non-final observation."""

    @abstractmethod
    def optimal_action(self, obs: Float[Array, " 1"], smoothing_weight: float = 0.0) -> Float[Array, " 1"]:
        """An action that attains ``value``; zero where every action does."""

    @property
    def spec(self) -> EnvSpec:
        """One number in, one number out."""
        return EnvSpec(
            (1,), np.dtype(np.float32), privileged_size=1, action=Box((1,)), ctrl_dt=1.0, has_smoothing=True
        )

    def reset(self, key: Key) -> tuple[ProbeState, TimeStep]:
        """Draws an episode."""
        state = ProbeState(self.draw(key), jnp.zeros((), jnp.int32))
        return state, self._show(state, Reward(jnp.zeros(()), jnp.zeros(())))

    def restart(self, state: ProbeState, key: Key) -> tuple[ProbeState, TimeStep]:
        """Draws an episode; nothing outlives the last one."""
        del state
        return self.reset(key)

    def step(self, state: ProbeState, action: Float[Array, " 1"], key: Key) -> tuple[ProbeState, TimeStep]:
        """Pays and counts."""
        del key
        reward = self.reward(state, jnp.clip(action[0], -1.0, 1.0))
        state = ProbeState(state.draw, state.elapsed + 1)
        return state, self._show(state, reward)

    def episode_metrics(self, state: ProbeState) -> EpisodeMetrics:
        """No metrics: the return is sufficient."""
        del state
        return {}

    def _show(self, state: ProbeState, reward: Reward) -> TimeStep:
        obs = self.observe(state)[None]
        is_last: Bool[Array, ""] = state.elapsed >= self.length
        return TimeStep(obs, obs, reward, state.elapsed == 0, is_last, is_last)


class ConstantReward(AbstractProbe):
    """Reward 1 for the only step; the value of the only observation, 0, is 1 whatever the action."""

    length = 1

    def draw(self, key: Key) -> Float[Array, ""]:
        """Nothing is random."""
        del key
        return jnp.zeros(())

    def observe(self, state: ProbeState) -> Float[Array, ""]:
        """Zero."""
        return state.draw

    def reward(self, state: ProbeState, action: Float[Array, ""]) -> Reward:
        """One."""
        del state, action
        return Reward(jnp.ones(()), jnp.zeros(()))

    def value(self, obs: Float[Array, " 1"], discount: float, smoothing_weight: float = 0.0) -> Scalar:
        """``1``."""
        del obs, discount, smoothing_weight
        return jnp.ones(())

    def optimal_action(self, obs: Float[Array, " 1"], smoothing_weight: float = 0.0) -> Float[Array, " 1"]:
        """Any."""
        del smoothing_weight
        return jnp.zeros_like(obs)


class ObsReward(AbstractProbe):
    """The observation, -1 or 1 with equal chance, is paid for the only step: its value is itself."""

    length = 1

    def draw(self, key: Key) -> Float[Array, ""]:
        """A sign."""
        return jr.rademacher(key, (), jnp.float32)

    def observe(self, state: ProbeState) -> Float[Array, ""]:
        """The sign."""
        return state.draw

    def reward(self, state: ProbeState, action: Float[Array, ""]) -> Reward:
        """The sign."""
        del action
        return Reward(state.draw, jnp.zeros(()))

    def value(self, obs: Float[Array, " 1"], discount: float, smoothing_weight: float = 0.0) -> Scalar:
        """``o``."""
        del discount, smoothing_weight
        return obs[0]

    def optimal_action(self, obs: Float[Array, " 1"], smoothing_weight: float = 0.0) -> Float[Array, " 1"]:
        """Any."""
        del smoothing_weight
        return jnp.zeros_like(obs)


class DelayedReward(AbstractProbe):
    """Two steps, observations 0 then 1, reward 1 for the second: values ``gamma`` and 1."""

    length = 2

    def draw(self, key: Key) -> Float[Array, ""]:
        """Nothing is random."""
        del key
        return jnp.zeros(())

    def observe(self, state: ProbeState) -> Float[Array, ""]:
        """The steps taken."""
        return state.elapsed.astype(jnp.float32)

    def reward(self, state: ProbeState, action: Float[Array, ""]) -> Reward:
        """One for the second step."""
        del action
        return Reward((state.elapsed == 1).astype(jnp.float32), jnp.zeros(()))

    def value(self, obs: Float[Array, " 1"], discount: float, smoothing_weight: float = 0.0) -> Scalar:
        """``gamma^(1 - o)``."""
        del smoothing_weight
        return jnp.where(obs[0] < 0.5, jnp.float32(discount), jnp.float32(1.0))

    def optimal_action(self, obs: Float[Array, " 1"], smoothing_weight: float = 0.0) -> Float[Array, " 1"]:
        """Any."""
        del smoothing_weight
        return jnp.zeros_like(obs)


class ActionReward(AbstractProbe):
    """Nominal ``1 - (a - 1/2)^2`` and smoothing ``-a^2`` for the only step.

    With smoothing weight ``w`` the best action is ``1 / (2 (1 + w))`` and the value ``1 - w / (4 (1 + w))``:
    1/2 and 1 without smoothing, 1/4 and 7/8 at full weight.
    """

    length = 1

    def draw(self, key: Key) -> Float[Array, ""]:
        """Nothing is random."""
        del key
        return jnp.zeros(())

    def observe(self, state: ProbeState) -> Float[Array, ""]:
        """Zero."""
        return state.draw

    def reward(self, state: ProbeState, action: Float[Array, ""]) -> Reward:
        """``1 - (a - 1/2)^2`` and ``-a^2``."""
        del state
        return Reward(1 - (action - 0.5) ** 2, -(action**2))

    def value(self, obs: Float[Array, " 1"], discount: float, smoothing_weight: float = 0.0) -> Scalar:
        """``1 - w / (4 (1 + w))``."""
        del obs, discount
        return jnp.float32(1 - smoothing_weight / (4 * (1 + smoothing_weight)))

    def optimal_action(self, obs: Float[Array, " 1"], smoothing_weight: float = 0.0) -> Float[Array, " 1"]:
        """``1 / (2 (1 + w))``."""
        return jnp.full_like(obs, 0.5 / (1 + smoothing_weight))


class ObsActionReward(AbstractProbe):
    """Reward ``-(a - o)^2`` for the only step, ``o`` uniform in [-0.8, 0.8]: act ``o``, value 0.

    The range stays clear of the action bounds, where a squashed policy would need an infinite mean.
    """

    length = 1

    def draw(self, key: Key) -> Float[Array, ""]:
        """A target."""
        return jr.uniform(key, (), jnp.float32, -0.8, 0.8)

    def observe(self, state: ProbeState) -> Float[Array, ""]:
        """The target."""
        return state.draw

    def reward(self, state: ProbeState, action: Float[Array, ""]) -> Reward:
        """``-(a - o)^2``."""
        return Reward(-((action - state.draw) ** 2), jnp.zeros(()))

    def value(self, obs: Float[Array, " 1"], discount: float, smoothing_weight: float = 0.0) -> Scalar:
        """``0``."""
        del obs, discount, smoothing_weight
        return jnp.zeros(())

    def optimal_action(self, obs: Float[Array, " 1"], smoothing_weight: float = 0.0) -> Float[Array, " 1"]:
        """``o``."""
        del smoothing_weight
        return obs
