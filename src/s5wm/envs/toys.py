"""Toy tasks between the probes and the drone: memory, control, and the alignment of actions with rewards."""

from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from s5wm.actions import Box
from s5wm.envs.base import AbstractEnv, EnvSpec
from s5wm.envs.chain import Chain as Chain
from s5wm.envs.chain import ChainConfig as ChainConfig
from s5wm.envs.chain import Metrics, Returns, Solved, first_row, later_row
from s5wm.envs.task import AbstractTask
from s5wm.envs.wrappers import TimeLimit
from s5wm.types import EpisodeMetrics, Key, TimeStep


@dataclass(frozen=True, kw_only=True)
class MemoryCueConfig(AbstractTask):
    """How long the cue must be remembered."""

    delay: int = 20  # steps from the cue to the reward

    def __post_init__(self) -> None:
        if self.delay < 1:
            raise ValueError(
                f"MemoryCueConfig.delay is {self.delay}; the answer follows the cue: give at least 1."
            )

    @property
    def max_steps(self) -> int:
        """The first episode of an environment idles longest."""
        return 2 * self.delay

    def success(self, metrics: Metrics, returns: Returns) -> Solved:
        """Right answers pay 1/2 and 3/2."""
        del metrics
        return returns > 0.0

    def build(self) -> "MemoryCue":
        """The environment."""
        return MemoryCue(self.delay)


class MemoryCueState(eqx.Module):
    """The cue (-1 or 1), steps taken, and idle steps after the answer."""

    cue: Float[Array, ""]
    elapsed: Int[Array, ""]
    rest: Int[Array, ""]


class MemoryCue(AbstractEnv[MemoryCueState]):
    """Remember which of two answers to give, 0 or 1, for ``delay`` steps.

    Observation ``[cue at t = 0 else 0, 1 at t = delay - 1 else 0]``, the cue being -1 or 1.  The action ``a`` chosen
    at the "answer now" flag earns, on arrival at ``t = delay``, ``1/2 - 4 a^2`` after the cue -1 and
    ``3/2 - 4 (1 - a)^2`` after the cue 1; every other reward is zero.  Return 1 on average with memory, at most 0
    without.

    One cue is worth more than the other whatever the policy does, so values depend on it from the beginning and a
    critic has reason to remember it.  With the symmetric pay-off ``cue * action`` neither factor alone is informative
    of reward or value: that would test the search for a product besides memory (docs/lab-notes.md, 8).

    The first episode of an environment goes on for a random 0 to ``delay`` idle steps after its answer, so that
    environments stay out of phase for ever; later episodes end (terminal) with the answer.
    """

    delay: int = eqx.field(static=True)

    @property
    def spec(self) -> EnvSpec:
        """Cue and flag in, answer out."""
        return EnvSpec(
            (2,), np.dtype(np.float32), privileged_size=2, action=Box((1,)), ctrl_dt=1.0, has_smoothing=True
        )

    def reset(self, key: Key) -> tuple[MemoryCueState, TimeStep]:
        """A cue, and a random idle time after its answer."""
        k_cue, k_rest = jr.split(key)
        return self._begin(k_cue, jr.randint(k_rest, (), 0, self.delay + 1, jnp.int32))

    def restart(self, state: MemoryCueState, key: Key) -> tuple[MemoryCueState, TimeStep]:
        """A new cue."""
        del state
        return self._begin(key, jnp.zeros((), jnp.int32))

    def step(
        self, state: MemoryCueState, action: Float[Array, " 1"], key: Key
    ) -> tuple[MemoryCueState, TimeStep]:
        """Pays the answer when it is due."""
        del key
        state = MemoryCueState(state.cue, state.elapsed + 1, state.rest)
        error = jnp.clip(action[0], -1.0, 1.0) - 0.5 * (1.0 + state.cue)
        paid = 1.0 + 0.5 * state.cue - 4.0 * error**2
        reward = jnp.where(state.elapsed == self.delay, paid, 0.0)
        is_last = state.elapsed >= self.delay + state.rest
        return state, later_row(self._observe(state), reward, is_last, is_last)

    def episode_metrics(self, state: MemoryCueState) -> EpisodeMetrics:
        """No metrics: the return is sufficient."""
        del state
        return {}

    def _begin(self, key: Key, rest: Int[Array, ""]) -> tuple[MemoryCueState, TimeStep]:
        state = MemoryCueState(jr.rademacher(key, (), jnp.float32), jnp.zeros((), jnp.int32), rest)
        return state, first_row(self._observe(state))

    def _observe(self, state: MemoryCueState) -> Float[Array, " 2"]:
        shown = jnp.where(state.elapsed == 0, state.cue, 0.0)
        return jnp.stack([shown, (state.elapsed == self.delay - 1).astype(jnp.float32)])


@dataclass(frozen=True, kw_only=True)
class DoubleIntegratorConfig(AbstractTask):
    """A unit mass on a line between two walls."""

    steps: int = 100  # to truncation
    ctrl_dt: float = 0.1  # s
    start: float = 1.0  # m; first position uniform in [-start, start], velocity in half of that per second
    wall: float = 2.0  # m

    def __post_init__(self) -> None:
        if self.ctrl_dt <= 0:
            raise ValueError(
                f"DoubleIntegratorConfig.ctrl_dt is {self.ctrl_dt}; time goes forward: give > 0."
            )
        if not 0 < self.start < self.wall:
            raise ValueError(
                f"DoubleIntegratorConfig.start is {self.start} and wall {self.wall}; "
                "starts lie between the walls: give 0 < start < wall."
            )

    @property
    def max_steps(self) -> int:
        """The time limit."""
        return self.steps

    def success(self, metrics: Metrics, returns: Returns) -> Solved:
        """Within 0.1 m of the origin at the end."""
        del returns
        return metrics["distance"] < 0.1

    def build(self) -> "TimeLimit[DoubleIntegratorState]":
        """The environment with its time limit."""
        transition = np.array([[1.0, self.ctrl_dt], [0.0, 1.0]])
        control = np.array([[self.ctrl_dt**2 / 2], [self.ctrl_dt]])
        gain, cost_to_go = _lqr(transition, control, _STATE_COST, _ACTION_COST, self.steps)
        env = DoubleIntegrator(
            jnp.asarray(gain, jnp.float32),
            jnp.asarray(cost_to_go, jnp.float32),
            self.ctrl_dt,
            self.start,
            self.wall,
        )
        return TimeLimit(env, self.steps)


_STATE_COST = np.diag([1.0, 0.1])
_ACTION_COST = 0.01


class DoubleIntegratorState(eqx.Module):
    """Position (m) and velocity (m/s)."""

    position: Float[Array, ""]
    velocity: Float[Array, ""]


class DoubleIntegrator(AbstractEnv[DoubleIntegratorState]):
    """Bring a unit mass to rest at the origin by a force in [-1, 1] N; walls stop it dead.

    ``reward_{t+1} = -(p_{t+1}^2 + 0.1 v_{t+1}^2 + 0.01 a_t^2) / wall^2``, observation ``[p, v]``.  Made
    with its time limit by ``DoubleIntegratorConfig``.
    """

    gain: Float[Array, " 2"]  # of the LQR over the episode
    cost_to_go: Float[Array, "2 2"]
    ctrl_dt: float = eqx.field(static=True)
    start: float = eqx.field(static=True)
    wall: float = eqx.field(static=True)

    @property
    def spec(self) -> EnvSpec:
        """Position and velocity in, force out."""
        return EnvSpec(
            (2,),
            np.dtype(np.float32),
            privileged_size=2,
            action=Box((1,)),
            ctrl_dt=self.ctrl_dt,
            has_smoothing=True,
        )

    def reference_action(self, obs: Float[Array, " 2"]) -> Float[Array, " 1"]:
        """Clipped LQR: near-optimal, the policy to compare a learner with."""
        return jnp.clip(-self.gain @ obs, -1.0, 1.0)[None]

    def return_bound(self, obs: Float[Array, " 2"]) -> Float[Array, ""]:
        """LQR return of a whole episode from ``obs`` with unbounded force and no walls: ``-x' P x / wall^2``.

        No policy that keeps off the walls does better, saturation only costs.
        """
        return -(obs @ self.cost_to_go @ obs) / self.wall**2

    def reset(self, key: Key) -> tuple[DoubleIntegratorState, TimeStep]:
        """A random position and velocity."""
        k_position, k_velocity = jr.split(key)
        state = DoubleIntegratorState(
            jr.uniform(k_position, (), jnp.float32, -self.start, self.start),
            jr.uniform(k_velocity, (), jnp.float32, -self.start / 2, self.start / 2),
        )
        return state, first_row(jnp.stack([state.position, state.velocity]))

    def restart(self, state: DoubleIntegratorState, key: Key) -> tuple[DoubleIntegratorState, TimeStep]:
        """A random position and velocity; nothing outlives the last episode."""
        del state
        return self.reset(key)

    def step(
        self, state: DoubleIntegratorState, action: Float[Array, " 1"], key: Key
    ) -> tuple[DoubleIntegratorState, TimeStep]:
        """Exact integration of a force held for ``ctrl_dt``."""
        del key
        force = jnp.clip(action[0], -1.0, 1.0)
        position = state.position + self.ctrl_dt * state.velocity + self.ctrl_dt**2 / 2 * force
        velocity = state.velocity + self.ctrl_dt * force
        velocity = jnp.where(jnp.abs(position) > self.wall, 0.0, velocity)
        position = jnp.clip(position, -self.wall, self.wall)
        obs = jnp.stack([position, velocity])
        cost = obs @ jnp.asarray(_STATE_COST, jnp.float32) @ obs + _ACTION_COST * force**2
        no = jnp.zeros((), bool)
        return DoubleIntegratorState(position, velocity), later_row(obs, -cost / self.wall**2, no, no)

    def episode_metrics(self, state: DoubleIntegratorState) -> EpisodeMetrics:
        """``distance`` from the origin, m."""
        return {"distance": jnp.abs(state.position)}


def _lqr(
    transition: np.ndarray, control: np.ndarray, state_cost: np.ndarray, action_cost: float, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """First gain and cost-to-go ``P`` of ``sum_t x_{t+1}' Q x_{t+1} + r a_t^2`` (Riccati, backwards)."""
    ahead = np.zeros_like(state_cost)
    gain = np.zeros((1, len(transition)))
    for _ in range(steps):
        arrival = state_cost + ahead
        gain = np.linalg.solve(action_cost + control.T @ arrival @ control, control.T @ arrival @ transition)
        ahead = transition.T @ arrival @ (transition - control @ gain)
    return gain[0], ahead
