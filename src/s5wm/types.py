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

import math
from collections.abc import Mapping
from typing import Any, Generic, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from s5wm.actions import ActionSpec
from s5wm.errors import ConfigError

Key = PRNGKeyArray
Scalar = Float[Array, ""]
Metrics = dict[str, Scalar]
"""Named scalars for the log; the only dictionary that leaves a pure function."""


class OptionalMetric(eqx.Module):
    """A metric that only some episodes have, as a lap time; ``value`` is meaningless where ``exists`` is False."""

    value: Float[Array, "*b"]
    exists: Bool[Array, "*b"]


EpisodeMetrics = dict[str, Float[Array, "*b"] | OptionalMetric]
"""Named metrics of an episode; the log holds means over the episodes that have each."""

RESERVED_METRICS = frozenset({"count", "length", "return_nominal", "return_smoothing", "steps"})
"""Names of what s5wm itself measures of episodes; an environment's metrics of these names are left out everywhere."""

Metric = TypeVar("Metric")


def without_reserved(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics of an environment that have names of their own."""
    return {name: metric for name, metric in metrics.items() if name not in RESERVED_METRICS}


Extras = TypeVar("Extras")
Carry = TypeVar("Carry")


class Reward(eqx.Module):
    """The reward of the task, and a second component where there is one.

    ``nominal`` is the task (progress, crashes); ``smoothing`` penalises rough actions and joins the
    value target only once the curriculum lets it.  They are never mixed before a value target is built.
    """

    nominal: Float[Array, "*b"]
    smoothing: Float[Array, "*b"] | None = None

    def total(self, smoothing_weight: Scalar | float) -> Float[Array, "*b"]:
        """``r_nom + w * r_aug``, the reward of a value target."""
        return self.nominal if self.smoothing is None else self.nominal + smoothing_weight * self.smoothing


class MixedObs(eqx.Module):
    """An image and a vector of numbers."""

    image: Shaped[Array | np.ndarray, "*b h w c"]  # uint8; of estimates in (0, 1)
    vector: Float[Array | np.ndarray, "*b V"]


Obs: TypeAlias = Shaped[Array, "..."] | MixedObs
"""A vector ``[*b, O]``, an image ``[*b, h, w, c]``, or both."""


One = TypeVar("One")


def array_of(obs: One | MixedObs) -> One:
    """An observation that is one array, on the device or the host; raises ``TypeError`` for one that is not."""
    if isinstance(obs, MixedObs):
        raise TypeError("this reads observations of one array, and was given an image and numbers")
    return obs


class TimeStep(eqx.Module):
    """What an environment shows at one step; no batch axis here, ``[N]`` or ``[B, T]`` in front outside."""

    obs: Obs  # the only thing a policy sees, besides is_first
    # Targets of decoders, input of critics, what PrivilegedStateRSSM learns from; never an argument of a policy.
    privileged: Float[Array, "*b X"] | None
    reward: Reward
    is_first: Bool[Array, "*b"]
    is_last: Bool[Array, "*b"]
    is_terminal: Bool[Array, "*b"]

    @property
    def state(self) -> Float[Array, "*b X"]:
        """The privileged vector, for those who know that there is one."""
        return existing(self.privileged)


def existing(privileged: Float[Array, "*b X"] | None) -> Float[Array, "*b X"]:
    """The privileged vector; raises ``ValueError`` where there is none."""
    if privileged is None:
        raise ValueError("this environment has no privileged vector (EnvSpec.privileged_size is 0)")
    return privileged


def first_step(obs: Obs, privileged: Float[Array, " X"] | None = None) -> TimeStep:
    """The time step with which an episode of ONE environment with one reward begins."""
    zero, no = jnp.zeros(()), jnp.zeros((), bool)
    return TimeStep(obs, privileged, Reward(zero), ~no, no, no)


def later_step(
    obs: Obs,
    reward: Float[Array, ""],
    *,
    is_last: Bool[Array, ""] | bool,
    is_terminal: Bool[Array, ""] | bool,
    privileged: Float[Array, " X"] | None = None,
) -> TimeStep:
    """A time step that an action led to, of ONE environment with one reward."""
    no = jnp.zeros((), bool)
    reward = jnp.asarray(reward, jnp.float32)
    return TimeStep(obs, privileged, Reward(reward), no, jnp.asarray(is_last), jnp.asarray(is_terminal))


class Transition(eqx.Module, Generic[Extras]):
    """A time step, the raw (unclipped) action chosen at it, and what the policy wants to remember of it."""

    timestep: TimeStep
    action: Float[Array, "*b A"]  # the agent's vector (s5wm.actions)
    extras: Extras


class EnvSpec(eqx.Module):
    """What an agent needs to be built; all static.

    Raises ``ConfigError``, a ``ValueError``, for what no observation is.
    """

    obs_shape: tuple[int, ...] = eqx.field(static=True)  # of the image, where there are an image and numbers
    obs_dtype: np.dtype = eqx.field(static=True)  # float32 vectors or uint8 images
    action: ActionSpec = eqx.field(static=True)
    ctrl_dt: float = eqx.field(static=True)  # seconds between two actions
    privileged_size: int = eqx.field(static=True, default=0)  # 0: time steps hold None
    has_smoothing: bool = eqx.field(static=True, default=False)  # whether rewards have that component
    vector_size: int = eqx.field(
        static=True, default=0
    )  # size of the vector next to an image; 0: observations are one array
    obs_names: tuple[str, ...] = eqx.field(static=True, default=())  # of its numbers; empty: they have none

    def __check_init__(self) -> None:
        if self.has_images and self.obs_dtype != np.uint8:
            raise ConfigError(
                f"obs_shape {self.obs_shape} is of an image, and obs_dtype is {self.obs_dtype}; pixels are uint8 from "
                "0 to 255: scale and round them, or show a vector"
            )
        numbers = self.vector_size if self.has_images else self.obs_numbers
        if self.obs_names and len(self.obs_names) != numbers:
            raise ConfigError(
                f"obs_names has {len(self.obs_names)} names, and the observation {numbers} numbers"
            )

    @property
    def action_size(self) -> int:
        """Numbers ``A`` that an agent chooses (``s5wm.actions``)."""
        return self.action.width

    @property
    def has_images(self) -> bool:
        """Whether observations are or hold images ``[h, w, c]``."""
        return len(self.obs_shape) == 3

    @property
    def obs_numbers(self) -> int:
        """Numbers in an observation."""
        return math.prod(self.obs_shape) + self.vector_size

    def zero_obs(self, *batch: int) -> Obs:
        """Observations of zeros, with these axes in front."""
        zeros = jnp.zeros((*batch, *self.obs_shape), self.obs_dtype)
        return MixedObs(zeros, jnp.zeros((*batch, self.vector_size))) if self.vector_size else zeros


def is_key(leaf: Any) -> bool:
    """Whether an array (or its shape) is one of typed random keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
