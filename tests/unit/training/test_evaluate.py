import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float

from s5wm.agents.base import AbstractPolicy
from s5wm.envs.toys import ChainConfig, DoubleIntegratorConfig
from s5wm.evaluation.rollout import EvalConfig, run_episodes
from s5wm.types import Key


class Counting(AbstractPolicy[Float[Array, ""], None]):
    """Acts with the number of observations seen since the beginning, over ten."""

    def initial(self) -> Float[Array, ""]:
        return jnp.zeros(())

    def __call__(
        self, carry: Float[Array, ""], obs: Array, is_first: Bool[Array, ""], *, key: Key | None
    ) -> tuple[Float[Array, ""], Float[Array, " 1"], None]:
        assert key is None, "evaluation takes modes"
        carry = jnp.where(is_first, 0.0, carry) + 0.1
        return carry, carry[None], None


def test_flights_are_what_a_loop_by_hand_gives() -> None:
    env = DoubleIntegratorConfig(steps=7).build()
    plan = EvalConfig(episodes=3, max_steps=20, recorded=2, snapshot=lambda state: state.inner.position)
    flights = run_episodes(env, Counting(), plan, jr.key(3))
    k_reset, _ = jr.split(jr.key(3))
    for index, key in enumerate(jr.split(k_reset, 3)):
        state, _ = env.reset(key)
        total, positions = 0.0, [state.inner.position]
        for t in range(7):
            state, timestep = env.step(state, jnp.array([0.1 * (t + 1)]), key)
            total += float(timestep.reward.nominal)
            positions.append(state.inner.position)
        assert timestep.is_last
        np.testing.assert_allclose(flights.return_nominal[index], total, rtol=1e-5)
        if index < 2:
            np.testing.assert_allclose(flights.recording.snapshot[index, :8], positions, rtol=1e-5)
            np.testing.assert_allclose(
                flights.recording.action[index, :7, 0], np.arange(1, 8) / 10, rtol=1e-5
            )
    assert flights.recording.snapshot.shape == (2, 21)
    assert flights.steps.tolist() == [7, 7, 7]
    assert not flights.is_terminal.any()


def test_a_finished_episode_stays_as_it_ended() -> None:
    env = ChainConfig(places=10).build()  # two places a step: over after five steps, all at once
    plan = EvalConfig(episodes=2, max_steps=50, recorded=1, snapshot=lambda state: state.place)
    flights = run_episodes(env, Counting(), plan, jr.key(0))
    assert flights.steps.tolist() == [5, 5]
    assert flights.is_terminal.all()
    assert flights.recording.snapshot[0, :6].tolist() == [0, 2, 4, 6, 8, 9]
    assert jax.tree.leaves(flights.final)[0].tolist() == [9, 9]


def test_an_episode_without_end_is_cut() -> None:
    env = DoubleIntegratorConfig(steps=1000).build()
    plan = EvalConfig(episodes=1, max_steps=3, recorded=1, snapshot=lambda _: {})
    flights = run_episodes(env, Counting(), plan, jr.key(0))
    assert flights.steps.tolist() == [3]
