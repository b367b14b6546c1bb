"""Episodes of a policy as pictures, where the environment renders."""

from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from s5wm.agents.base import AbstractPolicy
from s5wm.envs.host import AbstractHostEnvs, HostEnv, HostTimeStep, shown_by
from s5wm.errors import ConfigError
from s5wm.evaluation.hosted import act_to_judge

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
            for _ in range(max_steps):
                shots.append((_picture(envs), _caption(episode, total, latest)))
                if latest.is_last[0] or len(shots) >= MOST:
                    break
                key = jax.random.key(0)  # the mode draws nothing
                carry, action = act_to_judge(
                    policy, carry, shown_by(latest), key, spec=env.spec.action, sampled=False
                )
                latest = envs.step(np.asarray(action))
                total += float(latest.reward[0])
            if len(shots) >= MOST:
                break
    finally:
        envs.close()
    return shots


def _caption(episode: int, total: float, latest: HostTimeStep) -> str:
    words = f"episode {episode + 1}, return {total:.1f}"
    success = latest.metrics.get("success")
    if not latest.is_last[0] or success is None or np.isnan(success[0]):
        return words
    return f"{words}, {'success' if success[0] > 0.5 else 'no success'}"


def _picture(envs: AbstractHostEnvs) -> Picture:
    shown = envs.render()
    picture = np.asarray(shown)
    if picture.ndim != 3 or picture.shape[-1] not in (3, 4):
        found = "nothing" if shown is None else f"an array of shape {picture.shape}"
        raise ConfigError(
            f"this environment renders {found}; a video needs pictures [h, w, 3] from render() with "
            "render_mode='rgb_array'"
        )
    return picture[..., :3].astype(np.uint8)
