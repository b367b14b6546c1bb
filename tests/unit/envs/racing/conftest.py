"""One race and its compiled functions for all tests of this directory: compiling is what costs time here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from s5wm.envs.quadrotor.state import hover_state
from s5wm.envs.racing.task import RacingConfig, RacingEnv, RacingState

CONFIG = RacingConfig()


@dataclass(frozen=True)
class Race:
    """An environment and jitted functions of it."""

    env: RacingEnv
    reset: Callable[..., Any]
    step: Callable[..., Any]
    restart: Callable[..., Any]

    def hovering(self, pos: tuple[float, float, float], yaw: float = 0.0, **changes: Any) -> RacingState:
        """A state of the race at rest at ``pos``, other fields changed by name."""
        state, _ = self.reset(jr.key(0))
        quad = hover_state(self.env.params, jnp.array(pos, jnp.float32), jnp.array(yaw, jnp.float32))
        return changed(state, quad=quad, closest=jnp.array(1e3), **changes)


def changed(tree: Any, **fields: Any) -> Any:
    """A copy of a module with some fields replaced."""
    kept = {name: getattr(tree, name) for name in tree.__dataclass_fields__}
    return type(tree)(**{**kept, **fields})


def make_race(config: RacingConfig) -> Race:
    """A race whose functions are compiled once each."""
    env = config.build()
    return Race(
        env=env,
        reset=partial(jax.jit(lambda env, key: env.reset(key)), env),
        step=partial(jax.jit(lambda env, state, action, key: env.step(state, action, key)), env),
        restart=partial(jax.jit(lambda env, state, key: env.restart(state, key)), env),
    )


@pytest.fixture(scope="session")
def race() -> Race:
    """The default race."""
    return make_race(CONFIG)
