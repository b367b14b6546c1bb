"""Episodes of a policy as pictures, where the environment renders."""

from typing import Any

import jax
import jax.random as jr
import numpy as np
from jaxtyping import UInt8

from s5wm.agents.base import AbstractPolicy
from s5wm.envs.base import AbstractEnv, unwrapped
from s5wm.envs.host import CUT, HostEnv, HostTimeStep, shown_by
from s5wm.errors import ConfigError
from s5wm.evaluation.hosted import act_to_judge
from s5wm.types import Key, OptionalMetric, TimeStep

Picture = UInt8[np.ndarray, "H W 3"]
Shot = tuple[Picture, str]
"""With a caption: the episode, its return so far and, at its end, whether it was a success."""

MOST = 2000
"""Pictures of a video."""


def film(
    env: HostEnv, policy: AbstractPolicy[Any, Any], *, episodes: int, max_steps: int, seed: int
) -> list[Shot]:
    """Captioned pictures of episodes acted with the mode of a policy, one for each step; at most ``MOST``.

    Raises ``ConfigError`` where the environment gives none.
    """
    shots: list[Shot] = []
    envs = env.open(1)
    try:
        for episode in range(episodes):
            latest, total = envs.reset(seed + episode), 0.0
            carry = jax.tree.map(lambda x: x[None], policy.initial())
            for step in range(max_steps + 1):
                shown = _checked(envs.render(), "render() with render_mode='rgb_array'")
                shots.append((shown, _caption(episode, total, _success(latest))))
                if latest.is_last[0] or step == max_steps or len(shots) >= MOST:
                    break
                key = jax.random.key(0)  # the mode draws nothing
                carry, action = act_to_judge(
                    policy, carry, shown_by(latest), key, spec=env.spec.action, sampled=False
                )
                latest = envs.step(np.asarray(action))
                if latest.cut[0]:  # what it shows now is another episode
                    shots[-1] = (shown, f"{shots[-1][1]}, {CUT}")
                    break
                total += float(latest.reward[0])
            if len(shots) >= MOST:
                break
    finally:
        envs.close()
    return shots


def film_compiled(
    env: AbstractEnv[Any], policy: AbstractPolicy[Any, Any], *, episodes: int, max_steps: int, seed: int
) -> list[Shot]:
    """The same of an environment in JAX whose ``render`` gives pictures."""
    bare, _ = unwrapped(env, jax.eval_shape(env.reset, jr.key(0))[0])
    shots: list[Shot] = []

    @jax.jit
    def advance(carry: Any, state: Any, timestep: TimeStep, key: Key) -> tuple[Any, Any, TimeStep]:
        carry, action, _ = policy(carry, timestep.obs, timestep.is_first, key=None)
        return carry, *env.step(state, env.spec.action.decode(action), key)

    for episode in range(episodes):
        k_reset, k_step = jr.split(jr.key(seed + episode))
        state, latest = env.reset(k_reset)
        carry, total = policy.initial(), 0.0
        for step in range(max_steps + 1):
            shown = bare.render(unwrapped(env, state)[1])
            success = env.episode_metrics(state).get("success") if latest.is_last else None
            shots.append((_checked(shown, "render(state)"), _caption(episode, total, _number(success))))
            if latest.is_last or step == max_steps or len(shots) >= MOST:
                break
            carry, state, latest = advance(carry, state, latest, jr.fold_in(k_step, step))
            total += float(latest.reward.nominal)
        if len(shots) >= MOST:
            break
    return shots


def _number(metric: Any) -> float | None:
    if isinstance(metric, OptionalMetric):
        return float(metric.value) if metric.exists else None
    return None if metric is None else float(metric)


def _success(latest: HostTimeStep) -> float | None:
    success = latest.metrics.get("success")
    return None if not latest.is_last[0] or success is None or np.isnan(success[0]) else float(success[0])


def _caption(episode: int, total: float, success: float | None) -> str:
    words = f"episode {episode + 1}, return {total:.1f}"
    return words if success is None else f"{words}, {'success' if success > 0.5 else 'no success'}"


def _checked(shown: Any, how: str) -> Picture:
    picture = np.asarray(shown)
    if picture.ndim != 3 or picture.shape[-1] not in (3, 4):
        found = "nothing" if shown is None else f"an array of shape {picture.shape}"
        raise ConfigError(f"this environment renders {found}; a video needs pictures [h, w, 3] from {how}")
    if picture.dtype != np.uint8:
        raise ConfigError(
            f"this environment renders {picture.dtype}; a video needs numbers from 0 to 255 as uint8, from {how}"
        )
    return picture[..., :3]
