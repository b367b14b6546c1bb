"""Acting with PPO."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float

from s5wm.actions import ActionSpec
from s5wm.agents.base import AbstractPolicy
from s5wm.agents.ppo.actor import ActionDistribution, PolicyExtras, PPOActor, action_distribution, normalised
from s5wm.ops.running import RunningMoments
from s5wm.types import Key, Obs


class PPOPolicy(AbstractPolicy[Any, PolicyExtras]):
    """A Gaussian policy around its actor's mean, or a categorical one of its actor's logits."""

    actor: PPOActor
    log_std: Float[Array, " A"] | None  # None: actions are choices
    moments: RunningMoments | None  # of the numbers in observations
    action: ActionSpec = eqx.field(static=True)

    def initial(self) -> Any:
        """Initial memory of the actor."""
        return self.actor.initial()

    def distribution(self, carry: Any, obs: Obs, is_first: Bool[Array, ""]) -> tuple[Any, ActionDistribution]:
        """The memory after the step, and the distribution of the action vector, which is not clipped."""
        carry, out = self.actor(carry, normalised(self.moments, obs), is_first)
        return carry, action_distribution(self.action, out, self.log_std)

    def __call__(
        self, carry: Any, obs: Obs, is_first: Bool[Array, ""], *, key: Key | None
    ) -> tuple[Any, Float[Array, " A"], PolicyExtras]:
        """Act on one observation."""
        after, dist = self.distribution(carry, obs, is_first)
        action = dist.mode() if key is None else dist.sample(key)
        return after, action, PolicyExtras(dist.log_prob(action), carry)
