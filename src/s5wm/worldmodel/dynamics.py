"""The contract of a latent dynamics model, and imagination as a fold of its prediction.

The Markov state of a world model is its ``Belief``: the memory of the sequence core and the latent
``(h_t, z_t)``.  Heads read the latent's ``feature``, never the memory.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from s5wm.types import Scalar
from s5wm.worldmodel.latent import AbstractLatentSpace

Memory = TypeVar("Memory")


class Latent(eqx.Module):
    """``h_t`` (deter) and the flat sample ``z_t`` (stoch)."""

    deter: Float[Array, "*b D"]
    stoch: Float[Array, "*b Z"]

    @property
    def feature(self) -> Float[Array, "*b F"]:
        """``[h_t, z_t]``, what every head reads."""
        return jnp.concatenate([self.deter, self.stoch], axis=-1)


class Belief(eqx.Module, Generic[Memory]):
    """State of the dynamics: sufficient for the future, given actions and observations."""

    memory: Memory
    latent: Latent


class Posterior(eqx.Module, Generic[Memory]):
    """What ``observe`` returns, every leaf with a leading ``T``."""

    belief: Belief[Memory]
    posterior: Any  # distribution of the latent space, q(z_t | ...)
    prior: Any  # distribution of the latent space, p(z_t | h_t)


class AbstractDynamics(eqx.Module, Generic[Memory]):
    """Filtering, prediction and training pass over ONE sequence.

    Noise is an argument (``space.noise``), so every method is a pure function of parameters, data and
    noise; ``None`` takes modes.  Law (tests/laws): ``observe`` equals folding ``step``.
    """

    space: eqx.AbstractVar[AbstractLatentSpace[Any, Any]]

    @abstractmethod
    def initial(self) -> Belief[Memory]:
        """Belief before an episode."""

    @abstractmethod
    def step(
        self,
        belief: Belief[Memory],
        token: Float[Array, " E"],
        prev_action: Float[Array, " A"],
        is_first: Bool[Array, ""],
        *,
        noise: Float[Array, " J"] | None,
    ) -> Belief[Memory]:
        """Filter one observation: collection, evaluation and deployment."""

    def predict(
        self, belief: Belief[Memory], action: Float[Array, " A"], *, noise: Float[Array, " J"] | None
    ) -> Belief[Memory]:
        """One step ahead through the prior."""
        return self.predict_with_choice(belief, action, noise=noise)[0]

    @abstractmethod
    def predict_with_choice(
        self, belief: Belief[Memory], action: Float[Array, " A"], *, noise: Float[Array, " J"] | None
    ) -> tuple[Belief[Memory], Scalar]:
        """One step ahead through the prior, and ``space.choice_log_prob`` of it."""

    @abstractmethod
    def observe(
        self,
        belief: Belief[Memory],
        tokens: Float[Array, "T E"],
        prev_actions: Float[Array, "T A"],
        is_first: Bool[Array, " T"],
        *,
        noise: Float[Array, "T J"] | None,
    ) -> Posterior[Memory]:
        """The training pass; ``belief`` is the one before the first token."""


class Imagined(eqx.Module):
    """A rollout of ``H`` predictions: ``R = H + 1`` features (the start included) and the actions chosen at them.

    ``choice`` is the log-probability of what each prediction chose without a gradient.
    """

    feature: Float[Array, "R F"]
    action: Float[Array, "R A"]
    choice: Float[Array, " H"]


Draw = TypeVar("Draw")
Tree = TypeVar("Tree")

GRADIENT_LIMIT = 1e4
"""Largest gradient of an objective in one number of a belief that ``imagine`` passes on to the step before."""


@jax.custom_vjp
def bounded_gradient(tree: Tree) -> Tree:
    """The same tree; gradients in it are clipped to ``GRADIENT_LIMIT`` on both sides.

    Through many steps of a model that is still poor a gradient grows beyond float32, and infinity times zero is NaN.
    """
    return tree


def _bounded_forward(tree: Tree) -> tuple[Tree, None]:
    return tree, None


def _bounded_backward(_: None, gradient: Tree) -> tuple[Tree]:
    return (jax.tree.map(lambda g: jnp.clip(g, -GRADIENT_LIMIT, GRADIENT_LIMIT), gradient),)


bounded_gradient.defvjp(_bounded_forward, _bounded_backward)


def imagine(
    dynamics: AbstractDynamics[Memory],
    belief: Belief[Memory],
    act: Callable[[Float[Array, " F"], Draw], Float[Array, " A"]],
    draws: Draw,
    *,
    noise: Float[Array, "H J"],
) -> Imagined:
    """Fold ``predict`` along the actions of ``act(feature, draw)``; the last action is chosen but not used.

    ``draws`` has a leading ``R = H + 1``: what ``act`` needs of chance at each state.  It is drawn beforehand, as
    the noise of the dynamics is: random numbers cost more inside a loop than in one call.
    """

    def advance(
        current: Belief[Memory], inputs: tuple[Array, Draw]
    ) -> tuple[Belief[Memory], tuple[Array, Array, Array]]:
        noise, draw = inputs
        current = bounded_gradient(current)
        action = act(current.latent.feature, draw)
        following, choice = dynamics.predict_with_choice(current, action, noise=noise)
        return following, (current.latent.feature, action, choice)

    before, final = jax.tree.map(lambda x: x[:-1], draws), jax.tree.map(lambda x: x[-1], draws)
    last, (features, actions, choices) = jax.lax.scan(advance, belief, (noise, before))
    feature = last.latent.feature
    return Imagined(
        jnp.concatenate([features, feature[None]]),
        jnp.concatenate([actions, act(feature, final)[None]]),
        choices,
    )
