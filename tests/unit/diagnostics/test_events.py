import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.diagnostics.events import goal_changes, measure_events
from s5wm.diagnostics.forecast import Forecast, Reach
from s5wm.diagnostics.statistics import UNKNOWN
from s5wm.envs.hover import HOVER
from s5wm.envs.quadrotor.state import QuadState
from s5wm.envs.racing.evaluation import race_groups
from s5wm.envs.racing.observation import View, privileged, target_from
from s5wm.envs.racing.track import MAX_GATES, SplitSConfig
from s5wm.types import Reward, TimeStep

RACING = race_groups("B", "B")

# Two flights; the second is a new episode from row 3 on.
TARGETS = np.asarray([[0, 0, 1, 1, 2, 2], [3, 3, 3, 5, 5, 6]])
FIRST = np.asarray([[True] + [False] * 5, [True, False, False, True, False, False]])
PASSED = np.asarray([[0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1]], bool)


def flown() -> TimeStep:
    onehot = np.eye(8, dtype=np.float32)[TARGETS]
    privileged = np.concatenate([np.zeros((2, 6, target_from("B")), np.float32), onehot], axis=-1)
    reward = jnp.asarray(np.where(PASSED, 2.0, 0.1), jnp.float32)
    return TimeStep(
        obs=jnp.zeros((2, 6, 24)),
        privileged=jnp.asarray(privileged),
        reward=Reward(reward, jnp.zeros((2, 6))),
        is_first=jnp.asarray(FIRST),
        is_last=jnp.zeros((2, 6), bool),
        is_terminal=jnp.zeros((2, 6), bool),
    )


def test_a_pass_is_a_change_of_target_within_an_episode() -> None:
    assert np.array_equal(goal_changes(flown(), RACING), PASSED)
    assert not np.any(goal_changes(flown(), HOVER))


def test_the_target_is_where_the_environment_writes_it() -> None:
    quad = QuadState(
        pos_w=jnp.zeros(3),
        vel_w=jnp.zeros(3),
        quat=jnp.asarray([1.0, 0.0, 0.0, 0.0]),
        omega_b=jnp.zeros(3),
        rotor_speed=jnp.zeros(4),
    )

    @jax.jit
    def show(target: jax.Array) -> jax.Array:
        view = View(quad=quad, target=target, action=jnp.ones(4), clearance=jnp.array(0.6))
        return privileged("B", SplitSConfig().build(), view, jnp.asarray(1000.0))

    shown = [show(jnp.asarray(target)) for target in range(7)]
    assert [int(jnp.argmax(vector[-MAX_GATES:])) for vector in shown] == list(range(7))


def test_means_at_the_rows_of_a_pass() -> None:
    step = flown()
    reach = Reach.of(step.is_first, horizon=5, stride=1)
    # Forecasts that carry the step they are about and the steps they look ahead.
    row = jnp.broadcast_to(jnp.arange(6.0), (2, 6))
    filtered = Forecast(jnp.zeros((2, 6, 24)), row, jnp.zeros((2, 6)))
    about = jnp.broadcast_to(reach.target.astype(jnp.float32), (2, 5, 5))
    ahead = Forecast(jnp.ones((2, 5, 5, 24)), 100.0 + about, jnp.ones((2, 5, 5)))
    found = measure_events(
        filtered, ahead, reach, step, state=jnp.zeros((2, 6, 24)), groups=RACING
    ).goal_changes
    # Lead 0 knows the changes at steps 2 and 4 of the first flight (the last step has no start of its own);
    # lead 1 also that at step 5 of the second; lead 5 would have to look across the start of an episode.
    assert found.lead == (0, 1, 5)
    assert found.count.tolist() == [2, 3, 0]
    assert found.reward_predicted[:2] == pytest.approx([3.0, 100 + 11 / 3])
    assert found.reward_real[:2] == pytest.approx([2.0, 2.0])
    assert found.terminal_predicted[:2] == pytest.approx([0.0, 1.0])
    assert found.goal_error[:2] == pytest.approx([0.0, 10 * 3**0.5])
    assert found.reward_real[2] == UNKNOWN
