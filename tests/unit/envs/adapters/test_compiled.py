"""Environments of brax inside a program, with one that has its form."""

import sys
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from s5wm.envs.adapters.compiled import BraxConfig
from s5wm.envs.wrappers import AutoReset
from s5wm.errors import ConfigError


class State(NamedTuple):
    obs: jax.Array
    reward: jax.Array
    done: jax.Array


class Slide:
    """Like brax's: its size is what a reset gives, which no program can ask for while it is traced."""

    dt = 0.05
    action_size = 1

    def __init__(self, length: float = 2.0) -> None:
        self.length = length

    @property
    def observation_size(self) -> int:
        return int(jnp.ones(2).sum())

    def reset(self, key):
        return State(jnp.zeros(2), jnp.zeros(()), jnp.zeros(()))

    def step(self, state, action):
        place = state.obs[0] + action[0]
        return State(jnp.stack([place, action[0]]), place, (place > self.length).astype(jnp.float32))


@pytest.fixture(autouse=True)
def brax(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_environment(name, **arguments):
        return {"slide": Slide}[name](**arguments)

    envs = types.SimpleNamespace(get_environment=get_environment)
    monkeypatch.setitem(sys.modules, "brax", types.SimpleNamespace(envs=envs))


def test_a_program_steps_it() -> None:
    env = AutoReset(BraxConfig(id="slide", args=("length=2.5",), steps=4).build())
    assert env.spec.obs_shape == (2,) and env.spec.ctrl_dt == 0.05

    @jax.jit
    def unroll(key):
        def step(state, _):
            state, timestep = env.step(state, jnp.ones(env.spec.action_size), key)
            return state, timestep

        return jax.lax.scan(step, env.reset(key)[0], length=8)[1]

    rows = unroll(jax.random.key(0))
    assert rows.obs[:, 0].tolist() == [1, 2, 3, 0, 1, 2, 3, 0]
    assert rows.reward.nominal.tolist() == [1, 2, 3, 0, 1, 2, 3, 0]
    assert rows.is_terminal.tolist() == [False, False, True, False] * 2
    assert rows.is_first.tolist() == [False, False, False, True] * 2


def test_a_time_limit_truncates() -> None:
    env = BraxConfig(id="slide", args=("length=100",), steps=2).build()
    state, _ = env.reset(jax.random.key(0))
    for _ in range(2):
        state, now = env.step(state, jnp.ones(1), jax.random.key(0))
    assert bool(now.is_last) and not bool(now.is_terminal)


def test_what_it_does_not_know_is_named() -> None:
    with pytest.raises(ConfigError, match="brax:glide cannot be made"):
        BraxConfig(id="glide").build()
