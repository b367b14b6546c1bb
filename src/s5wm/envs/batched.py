"""A batch of environments on the device, stepped from the host; the Gymnasium adapters share it.

The seed of an environment determines all its randomness: the keys of its steps and restarts are a chain that starts
there.  ``begin`` draws what ``AutoReset`` would have drawn.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Shaped, UInt32
from numpy.typing import NDArray

from s5wm.envs.base import AbstractDroneEnv, AbstractEnv, DroneView, unwrapped
from s5wm.envs.wrappers import AutoReset, AutoResetState
from s5wm.types import Key, OptionalMetric, TimeStep

Values = NDArray[Any]
Mask = NDArray[np.bool_]


class SeededState(eqx.Module):
    """State of one environment, and the key of its future randomness."""

    state: AutoResetState[Any]
    key: Key


class Row(eqx.Module):
    """Outputs of ``N`` environments at one step."""

    timestep: TimeStep
    drone: DroneView | None  # where a drone flies
    metrics: dict[str, Shaped[Array, "..."]]  # [N, ...], of the episode so far


class BatchedEnv:
    """``N`` environments, each an endless stream of episodes; ``row`` holds their latest outputs, on the host."""

    def __init__(self, env: AbstractEnv[Any], num_envs: int) -> None:
        self.env = AutoReset(env)
        blank = jax.eval_shape(env.spec.action.blank)
        self.action_shape, self.action_dtype = (num_envs, *blank.shape), blank.dtype
        self.row: Row | None = None
        self._states: SeededState | None = None

    @property
    def is_created(self) -> bool:
        """Whether ``create`` has been called."""
        return self._states is not None

    def create(self, seeds: Sequence[int], mask: Mask) -> None:
        """Create environments from seeds ``[N]`` where ``mask`` is true; the first time everywhere."""
        words = np.stack([_seed_words(seed) for seed in seeds])
        states, row = _create(self.env, jnp.asarray(words))
        if self._states is not None and not mask.all():
            old = (self._states, self._last)
            states, row = _merged(jnp.asarray(mask), (states, row), old)
        self._keep(states, row)

    def begin(self, mask: Mask) -> None:
        """Start the next episode where ``mask`` is true; other environments keep their state."""
        states, row = _begin(self.env, self._current, self._last, jnp.asarray(mask))
        self._keep(states, row)

    def advance(self, action: Values) -> Row:
        """Step every environment; one whose episode has ended starts its next."""
        action = np.asarray(action, self.action_dtype).reshape(self.action_shape)
        return self._keep(*_advance(self.env, self._current, jnp.asarray(action)))

    def _keep(self, states: SeededState, row: Row) -> Row:
        self._states, self._last = states, row
        shown: Row = jax.device_get(row)
        self.row = shown
        return shown

    @property
    def _current(self) -> SeededState:
        assert self._states is not None, "create() comes before begin() and advance()"
        return self._states


@jax.jit
def _create(env: AutoReset[Any], seeds: UInt32[Array, "N 2"]) -> tuple[SeededState, Row]:
    def create(words: UInt32[Array, " 2"]) -> tuple[SeededState, Row]:
        seed = jr.key(words[0])
        seed = jax.lax.cond(words[1] == 0, lambda: seed, lambda: jr.fold_in(seed, words[1]))
        key, k_reset = jr.split(seed)
        state, timestep = env.reset(k_reset)
        return SeededState(state, key), _row(env, state, timestep)

    return jax.vmap(create)(seeds)


@jax.jit
def _advance(
    env: AutoReset[Any], states: SeededState, action: Shaped[Array, "N ..."]
) -> tuple[SeededState, Row]:
    def advance(seeded: SeededState, action: Shaped[Array, "..."]) -> tuple[SeededState, Row]:
        key, k_step = jr.split(seeded.key)
        state, timestep = env.step(seeded.state, action, k_step)
        return SeededState(state, key), _row(env, state, timestep)

    return jax.vmap(advance)(states, action)


@jax.jit
def _begin(
    env: AutoReset[Any], states: SeededState, last: Row, mask: Bool[Array, " N"]
) -> tuple[SeededState, Row]:
    def begin(seeded: SeededState) -> tuple[SeededState, Row]:
        key, k_step = jr.split(seeded.key)
        _, k_restart = jr.split(k_step)  # the key that AutoReset.step would restart with
        state, timestep = env.restart(seeded.state, k_restart)
        return SeededState(state, key), _row(env, state, timestep)

    return _chosen(mask, jax.vmap(begin)(states), (states, last))


def _chosen(mask: Bool[Array, " N"], on_true: Any, on_false: Any) -> Any:
    def choose(new: Array, old: Array) -> Array:
        return jnp.where(mask.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, on_true, on_false)


_merged = jax.jit(_chosen)


def _row(env: AutoReset[Any], state: AutoResetState[Any], timestep: TimeStep) -> Row:
    bare, inner = unwrapped(env, state)
    if isinstance(bare, AbstractDroneEnv):
        drone = bare.drone(inner)
        return Row(timestep, drone, _existing(drone.metrics))
    return Row(timestep, None, _existing(bare.episode_metrics(inner)))


def _existing(metrics: Mapping[str, Any]) -> dict[str, Array]:
    """Optional metrics are 0 where they do not exist."""
    return {
        name: jnp.where(value.exists, value.value, 0.0) if isinstance(value, OptionalMetric) else value
        for name, value in metrics.items()
    }


def rewards_of(row: Row) -> Values:
    """Rewards ``[N]``, the sum of the components that there are."""
    first, *others = (np.asarray(each) for each in jax.tree.leaves(row.timestep.reward))
    return first + others[0] if others else first


def info_of(row: Row, index: int) -> dict[str, Any]:
    """Metrics of one environment's episode so far, as plain Python values and arrays."""
    return {name: _plain(values[index]) for name, values in metrics_of(row).items()}


def metrics_of(row: Row) -> dict[str, Values]:
    """Metrics of all episodes so far, ``[N, ...]``; 0 where an environment lacks one."""
    metrics = {name: np.asarray(values) for name, values in row.metrics.items()}
    if row.drone is None:
        return metrics
    endings = np.array(row.drone.endings, dtype=object)[np.asarray(row.drone.ending)]
    return metrics | {"ending": endings}


def take_env(tree: Any, index: int) -> Any:
    """Entry of one environment in a tree ``[N, ...]``."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    return array.item() if array.ndim == 0 else np.array(array)


def _seed_words(seed: int) -> UInt32[np.ndarray, " 2"]:
    """Seeds below 2^32 as they are; of larger ones 63 bits, so that none is the start of another."""
    if seed < 2**32:
        return np.array([seed, 0], np.uint32)
    low, high = np.random.SeedSequence(seed).generate_state(2)
    return np.array([low, high | np.uint32(1)], np.uint32)
