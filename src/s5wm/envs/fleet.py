"""Copies of an environment on the device, driven from the host: what the Gymnasium adapters share.

Everything a copy will live through is decided by its seed: the random keys of its steps and restarts come from a chain
that begins there.  A copy that is begun anew by ``begin`` draws what ``AutoReset`` would have drawn.
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


class Copy(eqx.Module):
    """A living copy of an environment and the key of all that will happen to it."""

    state: AutoResetState[Any]
    key: Key


class Row(eqx.Module):
    """What copies ``[N]`` show at one step."""

    timestep: TimeStep
    drone: DroneView | None  # where a drone flies
    figures: dict[str, Shaped[Array, "..."]]  # [N, ...], of the episode so far


class Fleet:
    """``N`` copies, each in an endless stream of episodes; ``row`` is what they showed last, on the host."""

    def __init__(self, env: AbstractEnv[Any], num_envs: int) -> None:
        self.env = AutoReset(env)
        blank = jax.eval_shape(env.spec.action.blank)
        self.action_shape, self.action_dtype = (num_envs, *blank.shape), blank.dtype
        self.row: Row | None = None
        self._copies: Copy | None = None

    @property
    def is_living(self) -> bool:
        """Whether there are copies."""
        return self._copies is not None

    def create(self, seeds: Sequence[int], mask: Mask) -> None:
        """Fresh copies from seeds ``[N]`` where ``mask`` is true; the first time everywhere."""
        words = np.stack([_seed_words(seed) for seed in seeds])
        copies, row = _create(self.env, jnp.asarray(words))
        if self._copies is not None and not mask.all():
            old = (self._copies, self._last)
            copies, row = _merged(jnp.asarray(mask), (copies, row), old)
        self._keep(copies, row)

    def begin(self, mask: Mask) -> None:
        """The next episode of the copies where ``mask`` is true; the others stay as they are."""
        copies, row = _begin(self.env, self._living, self._last, jnp.asarray(mask))
        self._keep(copies, row)

    def advance(self, action: Values) -> Row:
        """One row of every copy; of one whose episode has ended the first of its next."""
        action = np.asarray(action, self.action_dtype).reshape(self.action_shape)
        return self._keep(*_advance(self.env, self._living, jnp.asarray(action)))

    def _keep(self, copies: Copy, row: Row) -> Row:
        self._copies, self._last = copies, row
        shown: Row = jax.device_get(row)
        self.row = shown
        return shown

    @property
    def _living(self) -> Copy:
        assert self._copies is not None, "copies are created before they fly"
        return self._copies


@jax.jit
def _create(env: AutoReset[Any], seeds: UInt32[Array, "N 2"]) -> tuple[Copy, Row]:
    def create(words: UInt32[Array, " 2"]) -> tuple[Copy, Row]:
        seed = jr.key(words[0])
        seed = jax.lax.cond(words[1] == 0, lambda: seed, lambda: jr.fold_in(seed, words[1]))
        key, k_reset = jr.split(seed)
        state, timestep = env.reset(k_reset)
        return Copy(state, key), _row(env, state, timestep)

    return jax.vmap(create)(seeds)


@jax.jit
def _advance(env: AutoReset[Any], copies: Copy, action: Shaped[Array, "N ..."]) -> tuple[Copy, Row]:
    def advance(copy: Copy, action: Shaped[Array, "..."]) -> tuple[Copy, Row]:
        key, k_step = jr.split(copy.key)
        state, timestep = env.step(copy.state, action, k_step)
        return Copy(state, key), _row(env, state, timestep)

    return jax.vmap(advance)(copies, action)


@jax.jit
def _begin(env: AutoReset[Any], copies: Copy, last: Row, mask: Bool[Array, " N"]) -> tuple[Copy, Row]:
    def begin(copy: Copy) -> tuple[Copy, Row]:
        key, k_step = jr.split(copy.key)
        _, k_restart = jr.split(k_step)  # the key that AutoReset.step would restart with
        state, timestep = env.restart(copy.state, k_restart)
        return Copy(state, key), _row(env, state, timestep)

    return _chosen(mask, jax.vmap(begin)(copies), (copies, last))


def _chosen(mask: Bool[Array, " N"], on_true: Any, on_false: Any) -> Any:
    def choose(new: Array, old: Array) -> Array:
        return jnp.where(mask.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, on_true, on_false)


_merged = jax.jit(_chosen)


def _row(env: AutoReset[Any], state: AutoResetState[Any], timestep: TimeStep) -> Row:
    bare, inner = unwrapped(env, state)
    if isinstance(bare, AbstractDroneEnv):
        drone = bare.drone(inner)
        return Row(timestep, drone, _existing(drone.figures))
    return Row(timestep, None, _existing(bare.episode_metrics(inner)))


def _existing(figures: Mapping[str, Any]) -> dict[str, Array]:
    """Figures that only some episodes have are 0 in the others."""
    return {
        name: jnp.where(value.exists, value.value, 0.0) if isinstance(value, OptionalMetric) else value
        for name, value in figures.items()
    }


def rewards_of(row: Row) -> Values:
    """Rewards ``[N]``, the sum of the components that there are."""
    first, *others = (np.asarray(each) for each in jax.tree.leaves(row.timestep.reward))
    return first + others[0] if others else first


def info_of(row: Row, index: int) -> dict[str, Any]:
    """What one copy's episode has come to, as plain Python values and arrays."""
    return {name: _plain(values[index]) for name, values in figures_of(row).items()}


def figures_of(row: Row) -> dict[str, Values]:
    """The same of all copies, ``[N, ...]``; what only some have is 0 elsewhere."""
    figures = {name: np.asarray(values) for name, values in row.figures.items()}
    if row.drone is None:
        return figures
    endings = np.array(row.drone.endings, dtype=object)[np.asarray(row.drone.ending)]
    return figures | {"ending": endings}


def copy_of(tree: Any, index: int) -> Any:
    """One copy of a tree ``[N, ...]``."""
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
