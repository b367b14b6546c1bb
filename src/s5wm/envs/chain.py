"""A chain of places with known answers, and the time steps of toy tasks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from s5wm.actions import Box
from s5wm.envs.base import AbstractEnv, EnvSpec
from s5wm.envs.task import AbstractTask
from s5wm.types import EpisodeMetrics, Key, Reward, TimeStep

Metrics: TypeAlias = Mapping[str, Float[np.ndarray, " K"]]
Returns: TypeAlias = Float[np.ndarray, " K"]
Solved: TypeAlias = Bool[np.ndarray, " K"]


def first_row(obs: Float[Array, " O"]) -> TimeStep:
    """The first time step of an episode; the observation is the privileged vector, too."""
    zero, no = jnp.zeros(()), jnp.zeros((), bool)
    return TimeStep(obs, obs, Reward(zero, zero), ~no, no, no)


def later_row(
    obs: Float[Array, " O"], reward: Float[Array, ""], is_last: Bool[Array, ""], is_terminal: Bool[Array, ""]
) -> TimeStep:
    """A time step that an action led to; the observation is the privileged vector, too."""
    return TimeStep(obs, obs, Reward(reward, jnp.zeros(())), jnp.zeros((), bool), is_last, is_terminal)


@dataclass(frozen=True, kw_only=True)
class ChainConfig(AbstractTask):
    """A line of places, and the rule of its end."""

    places: int = 10
    is_terminal: bool = True  # False: arriving at the last place truncates

    def __post_init__(self) -> None:
        if self.places < 3:
            raise ValueError(
                f"ChainConfig.places is {self.places}; a step may skip a place: give at least 3."
            )

    @property
    def max_steps(self) -> int:
        """A step moves on by one place or two."""
        return self.places

    def success(self, metrics: Metrics, returns: Returns) -> Solved:
        """A return of more than half a pay."""
        del metrics
        return returns > 0.5

    def build(self) -> "Chain":
        """The environment; the pay of place ``i`` is ``(-1)^i (i + 1) / places``."""
        place = np.arange(self.places)
        return Chain(jnp.asarray((-1.0) ** place * (place + 1) / self.places, jnp.float32), self.is_terminal)


class ChainState(eqx.Module):
    """The place in the chain."""

    place: Int[Array, ""]


class Chain(AbstractEnv[ChainState]):
    """Deterministic walk with known answers, for tests of alignment.

    From place ``i`` the action ``a`` moves on by 2 if ``a >= 0``, else by 1, and pays ``pay_i * a`` on
    arrival: ``(o_{t+1}, r_{t+1})`` is a function of ``(o_t, a_t)``.  The observation is the place, one-hot,
    and does not depend on the size of ``a_t``: a model that pairs ``a_t`` with ``o_t`` instead of ``o_{t+1}``
    cannot predict the reward.  The last place ends the episode.
    """

    pay: Float[Array, " O"]
    is_terminal: bool = eqx.field(static=True)

    @property
    def spec(self) -> EnvSpec:
        """One-hot place in, one number out."""
        size = self.pay.shape[0]
        return EnvSpec(
            (size,),
            np.dtype(np.float32),
            privileged_size=size,
            action=Box((1,)),
            ctrl_dt=1.0,
            has_smoothing=True,
        )

    def reset(self, key: Key) -> tuple[ChainState, TimeStep]:
        """At place 0."""
        del key
        state = ChainState(jnp.zeros((), jnp.int32))
        return state, first_row(self._observe(state))

    def restart(self, state: ChainState, key: Key) -> tuple[ChainState, TimeStep]:
        """Back to place 0."""
        del state
        return self.reset(key)

    def step(self, state: ChainState, action: Float[Array, " 1"], key: Key) -> tuple[ChainState, TimeStep]:
        """One or two places on."""
        del key
        end = self.pay.shape[0] - 1
        push = jnp.clip(action[0], -1.0, 1.0)
        after = ChainState(jnp.minimum(state.place + jnp.where(push >= 0, 2, 1), end).astype(jnp.int32))
        is_last = after.place == end
        return after, later_row(
            self._observe(after), self.pay[state.place] * push, is_last, is_last & self.is_terminal
        )

    def episode_metrics(self, state: ChainState) -> EpisodeMetrics:
        """No metrics: the return is sufficient."""
        del state
        return {}

    def _observe(self, state: ChainState) -> Float[Array, " O"]:
        return (jnp.arange(self.pay.shape[0]) == state.place).astype(jnp.float32)
