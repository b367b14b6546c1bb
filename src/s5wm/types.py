"""Types every part of the project speaks: keys, time steps, transitions and how they line up in time.

Axes used in every annotation: ``N`` environments, ``B`` batch, ``T`` time, ``H`` imagination horizon,
``D`` deterministic width, ``S K`` latent groups and classes, ``F`` feature, ``E`` token, ``A`` action,
``O`` observation, ``L`` layers, ``P`` SSM state.  ``*b`` stands for any leading batch axes.

Alignment of one episode of three actions, followed by the next episode::

    t         0    1    2    3 last   4 first     reward r_t is received on arriving at o_t
    obs       o0   o1   o2   o3       o0'         action a_t is chosen at o_t
    reward    0    r1   r2   r3       0           truncated = is_last & ~is_terminal: bootstrap from o3
    action    a0   a1   a2   (ignored) a0'        the step after is_last is a reset
"""

from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

Key = PRNGKeyArray
Scalar = Float[Array, ""]
Metrics = dict[str, Scalar]
"""Named scalars for the log; the only dictionary that leaves a pure function."""


class OptionalMetric(eqx.Module):
    """A figure that only some episodes have, as a lap time; ``value`` means nothing where ``exists`` is False."""

    value: Float[Array, "*b"]
    exists: Bool[Array, "*b"]


EpisodeMetrics = dict[str, Float[Array, "*b"] | OptionalMetric]
"""Named figures of an episode; the log holds means over the episodes that have one."""

Extras = TypeVar("Extras")
Carry = TypeVar("Carry")


class Reward(eqx.Module):
    """The two reward components, never mixed before a value target is built.

    ``nominal`` is the task (progress, crashes); ``smoothing`` penalises rough actions and joins the
    value target only once the curriculum lets it.
    """

    nominal: Float[Array, "*b"]
    smoothing: Float[Array, "*b"]

    def total(self, smoothing_weight: Scalar) -> Float[Array, "*b"]:
        """``r_nom + w * r_aug``, the reward of a value target."""
        return self.nominal + smoothing_weight * self.smoothing


class TimeStep(eqx.Module):
    """What an environment shows at one step; no batch axis here, ``[N]`` or ``[B, T]`` in front outside."""

    obs: Shaped[Array, "..."]  # [*b, O] or [*b, 64, 64, 3]; the only thing a policy sees, besides is_first
    # Targets of decoders, input of critics, what believed dynamics learn from; never an argument of a policy.
    privileged: Float[Array, "*b X"]
    reward: Reward
    is_first: Bool[Array, "*b"]
    is_last: Bool[Array, "*b"]
    is_terminal: Bool[Array, "*b"]


class Transition(eqx.Module, Generic[Extras]):
    """A time step, the raw (unclipped) action chosen at it, and what the policy wants to remember of it."""

    timestep: TimeStep
    action: Float[Array, "*b A"]
    extras: Extras


class EnvSpec(eqx.Module):
    """Shapes an agent needs to be built; all static."""

    obs_shape: tuple[int, ...] = eqx.field(static=True)
    obs_dtype: np.dtype = eqx.field(static=True)  # float32 vectors or uint8 images
    privileged_size: int = eqx.field(static=True)
    action_size: int = eqx.field(static=True)  # every component lives in [-1, 1]
    ctrl_dt: float = eqx.field(static=True)  # seconds between two actions
    kind: str = eqx.field(
        static=True, default=""
    )  # "race" or "hover", whose vectors have units; else unknown

    @property
    def has_images(self) -> bool:
        """Whether observations are images ``[h, w, c]`` rather than vectors."""
        return len(self.obs_shape) == 3


def is_key(leaf: Any) -> bool:
    """Whether an array (or its shape) is one of typed random keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
