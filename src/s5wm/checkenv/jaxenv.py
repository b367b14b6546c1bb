"""What may be wrong with an environment of pure functions."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Int
from numpy.typing import NDArray

from s5wm.checkenv.seen import EVAL_STEPS, Seen
from s5wm.envs.base import AbstractEnv
from s5wm.envs.wrappers import AutoReset
from s5wm.types import RESERVED_METRICS, Key, MixedObs, TimeStep

COPIES = 4


def check_jax(env: AbstractEnv[Any], steps: int, report: Callable[[str], None], seen: Seen) -> Iterator[str]:
    """Every problem found in ``steps`` random steps of a few environments; in more where no episode ended."""
    report("reset")
    state, first = jax.jit(lambda key: env.reset(key))(jr.key(0))
    yield from _check_shapes(env, first)
    yield from _check_metrics(jax.eval_shape(env.episode_metrics, state), seen)
    report("step")
    action = env.spec.action.decode(jnp.zeros(env.spec.action_size))
    after = jax.eval_shape(env.step, state, action, jr.key(0))
    if changed := _changed((state, first), after):
        yield f"step changes shape or type of {changed}"
        return
    report(f"{steps} steps")
    stream = AutoReset(env)
    trajectory = _trajectory(stream, jr.key(1), steps)
    _look(trajectory, seen)
    yield from _check_finite(trajectory)
    yield from _check_flags(trajectory)
    report("the same steps again")
    if not _same(trajectory, _trajectory(stream, jr.key(1), steps)):
        yield "the same key and actions give different trajectories: it is not deterministic"
    yield from _check_randomness(trajectory, _trajectory(stream, jr.key(2), steps))
    if not seen.lengths and seen.limit is None:
        report(f"{EVAL_STEPS} steps")
        length, ends = jax.device_get(_first_episode(env, jr.key(3)))
        if ends:
            seen.lengths.append(int(length))
        else:
            yield seen.endless(int(length), "s5wm.envs.wrappers.TimeLimit")


def _check_shapes(env: AbstractEnv[Any], first: TimeStep) -> Iterator[str]:
    spec = env.spec
    shown, declared = (_described(obs) for obs in (first.obs, spec.zero_obs()))
    if shown != declared:
        yield f"the observation is {shown}, its spec {declared}"
    size = (0,) if first.privileged is None else first.privileged.shape
    if size != (spec.privileged_size,):
        yield f"privileged has shape {size}, its spec ({spec.privileged_size},)"
    if (first.reward.smoothing is not None) != spec.has_smoothing:
        yield f"has_smoothing of its spec is {spec.has_smoothing}, and its rewards are otherwise"
    if not bool(first.is_first) or bool(first.is_last) or bool(first.is_terminal):
        yield "the time step of reset is not is_first, or is is_last or is_terminal"
    if any(float(each) != 0.0 for each in jax.tree.leaves(first.reward)):
        yield "reset gives a reward that is not zero"


def _check_metrics(metrics: Mapping[str, Any], seen: Seen) -> Iterator[str]:
    for name, metric in metrics.items():
        shape = next((part.shape for part in jax.tree.leaves(metric) if part.shape), None)
        if name in RESERVED_METRICS:
            yield f"the metric {name} has a name of s5wm's own numbers, and is left out: name it otherwise"
        elif shape is not None:
            yield f"the metric {name} is an array of shape {shape}, not a number"
        else:
            seen.reported[name] = None


def _described(obs: Any) -> str:
    """Dtype and shape of an observation, or of its parts."""
    return " and ".join(f"{part.dtype}{list(part.shape)}" for part in jax.tree.leaves(obs))


def _changed(before: Any, after: Any) -> str | None:
    if jax.tree.structure(before) != jax.tree.structure(after):
        return "its state: other fields"
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if x.shape != y.shape or x.dtype != y.dtype:
            return f"{jax.tree_util.keystr(path)}: {x.dtype}{list(x.shape)} to {y.dtype}{list(y.shape)}"
    return None


def _trajectory(env: AutoReset[Any], key: Key, steps: int) -> TimeStep:
    """Time steps ``[COPIES, steps + 1]``."""

    @jax.jit
    def fly(key: Key) -> TimeStep:
        k_reset, k_action, k_step = jr.split(key, 3)
        state, first = env.reset(k_reset)
        actions = jr.uniform(k_action, (steps, env.spec.action_size), minval=-1.0, maxval=1.0)

        def advance(state: Any, at: tuple[Any, Key]) -> tuple[Any, TimeStep]:
            action, key = at
            return env.step(state, env.spec.action.decode(action), key)

        _, rest = jax.lax.scan(advance, state, (actions, jr.split(k_step, steps)))
        return jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), first, rest)

    return jax.device_get(jax.vmap(fly)(jr.split(key, COPIES)))


@jax.jit
def _first_episode(env: AbstractEnv[Any], key: Key) -> tuple[Int[Array, ""], Bool[Array, ""]]:
    """Steps of an episode, at most those of an evaluation, and whether it ended."""
    k_reset, k_steps = jr.split(key)

    def advance(carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        taken, state, _ = carry
        k_action, k_step = jr.split(jr.fold_in(k_steps, taken))
        action = jr.uniform(k_action, (env.spec.action_size,), minval=-1.0, maxval=1.0)
        state, after = env.step(state, env.spec.action.decode(action), k_step)
        return taken + 1, state, after.is_last

    begin = (jnp.zeros((), jnp.int32), env.reset(k_reset)[0], jnp.zeros((), bool))
    taken, _, ended = jax.lax.while_loop(lambda carry: (carry[0] < EVAL_STEPS) & ~carry[2], advance, begin)
    return taken, ended


def _look(trajectory: TimeStep, seen: Seen) -> None:
    """Rewards and lengths of episodes."""
    first, last = np.asarray(trajectory.is_first), np.asarray(trajectory.is_last)
    seen.rewards.extend(np.asarray(trajectory.reward.nominal)[~first].tolist())
    for row in range(len(first)):
        begins, ends = np.flatnonzero(first[row]), np.flatnonzero(last[row])
        seen.lengths.extend(int(b - a) for a, b in zip(begins, ends, strict=False))


def _check_finite(trajectory: TimeStep) -> Iterator[str]:
    described = {
        **{f"observation{at}": part for at, part in _named_parts(trajectory.obs)},
        "privileged": trajectory.privileged,
        "nominal reward": trajectory.reward.nominal,
        "smoothing reward": trajectory.reward.smoothing,
    }
    for name, values in described.items():
        if values is None:
            continue
        array: NDArray[Any] = np.asarray(values)
        wrong = ~np.isfinite(array.astype(np.float64)).reshape(*array.shape[:2], -1).all(-1)
        if wrong.any():
            env, step = np.argwhere(wrong)[0]
            yield f"the {name} of environment {env} is not finite at step {step}"


def _named_parts(obs: Any) -> list[tuple[str, Any]]:
    """Parts of an observation, by name; a single array has none."""
    if isinstance(obs, MixedObs):
        return [("'s image", obs.image), ("'s vector", obs.vector)]
    return [("", obs)]


def _check_flags(trajectory: TimeStep) -> Iterator[str]:
    first, last, terminal = (
        np.asarray(x) for x in (trajectory.is_first, trajectory.is_last, trajectory.is_terminal)
    )
    if (terminal & ~last).any():
        yield "is_terminal without is_last: an episode goes on after its end"
    if (first[:, 1:] != last[:, :-1]).any():
        yield "is_first is not what follows is_last, and only that"
    if (first & last).any():
        yield "an episode ends with its first time step"
    begun = np.where(first, sum(np.abs(each) for each in jax.tree.leaves(trajectory.reward)), 0.0)
    if (begun > 0).any():
        yield "restart gives a reward that is not zero"


def _check_randomness(trajectory: TimeStep, other: TimeStep) -> Iterator[str]:
    if _same(trajectory.obs, other.obs):
        yield "another key and other actions give the same trajectory"


def _same(left: Any, right: Any) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(left), jax.tree.leaves(right)))
