"""PPO's actors: from an observation and a memory to the mean of the action.

Every actor acts step by step and learns from segments; law (tests/laws): ``segment`` equals folding the call.
Its memory is stored with each transition, so that a segment can begin anywhere.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float

from s5wm.actions import ActionSpec, Box
from s5wm.nn.conv import ImageConfig, ImageEncoder, build_encoder, token_size
from s5wm.nn.s5 import S5, S5Config
from s5wm.ops.distributions import Normal, OneHots
from s5wm.ops.running import RunningMoments
from s5wm.types import Carry, EnvSpec, Key, MixedObs, Obs, array_of


class TanhMLP(eqx.Module):
    """Orthogonal weights, tanh between them (Andrychowicz et al. 2021: what matters in on-policy RL)."""

    weights: tuple[Float[Array, "out in"], ...]
    biases: tuple[Float[Array, " out"], ...]

    def __init__(self, sizes: tuple[int, ...], *, out_scale: float, key: Key) -> None:
        gains = [2**0.5] * (len(sizes) - 2) + [out_scale]
        keys = jr.split(key, len(gains))
        self.weights = tuple(
            jax.nn.initializers.orthogonal(gain)(k, (o, i))
            for gain, k, i, o in zip(gains, keys, sizes[:-1], sizes[1:], strict=True)
        )
        self.biases = tuple(jnp.zeros(size) for size in sizes[1:])

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        """One vector."""
        *hidden, (last, bias) = zip(self.weights, self.biases, strict=True)
        for weight, offset in hidden:
            x = jnp.tanh(weight @ x + offset)
        return last @ x + bias


def token_of(encoder: ImageEncoder | None, obs: Obs) -> Float[Array, " E"]:
    """The image's token, followed by the numbers that come with it; vectors are their own tokens."""
    if isinstance(obs, MixedObs):
        assert encoder is not None, "the actor is built by the spec"
        return jnp.concatenate([encoder(jnp.asarray(obs.image)), jnp.asarray(obs.vector)])
    return array_of(obs) if encoder is None else encoder(array_of(obs))


class ImageMLP(eqx.Module):
    """An image encoder and a ``TanhMLP`` on its token, and on the numbers that come with the image."""

    encoder: ImageEncoder
    head: TanhMLP

    def __call__(self, x: Obs) -> Float[Array, " out"]:
        """One image, alone or with numbers."""
        return self.head(token_of(self.encoder, x))


Network: TypeAlias = TanhMLP | ImageMLP


def _output(network: Network, obs: Obs) -> Float[Array, " out"]:
    return network(obs) if isinstance(network, ImageMLP) else network(array_of(obs))


class AbstractPPOActor(eqx.Module, Generic[Carry]):
    """Observations are vectors already normalised, images as they come, or both."""

    @abstractmethod
    def initial(self) -> Carry:
        """Initial memory."""

    @abstractmethod
    def __call__(self, carry: Carry, obs: Obs, is_first: Bool[Array, ""]) -> tuple[Carry, Float[Array, " A"]]:
        """One step: the memory after it and the mean of the action."""

    @abstractmethod
    def segment(self, carry: Carry, obs: Obs, is_first: Bool[Array, " T"]) -> Float[Array, "T A"]:
        """Means of consecutive time steps, from the memory before the first."""


class ReactiveActor(AbstractPPOActor[None]):
    """The observation alone."""

    network: Network

    def initial(self) -> None:
        """Nothing."""

    def __call__(self, carry: None, obs: Obs, is_first: Bool[Array, ""]) -> tuple[None, Float[Array, " A"]]:
        """``network(o_t)``."""
        return None, _output(self.network, obs)

    def segment(self, carry: None, obs: Obs, is_first: Bool[Array, " T"]) -> Float[Array, "T A"]:
        """All time steps at once, each by itself."""
        return jax.vmap(lambda o: _output(self.network, o))(obs)


class StackActor(AbstractPPOActor[Obs]):
    """Stack of the last ``frames`` observations; at the start of an episode the first one is repeated."""

    network: Network
    frames: int = eqx.field(static=True)
    spec: EnvSpec

    def initial(self) -> Obs:
        """Frames that the first step replaces."""
        return self.spec.zero_obs(self.frames - 1)

    def __call__(self, carry: Obs, obs: Obs, is_first: Bool[Array, ""]) -> tuple[Obs, Float[Array, " A"]]:
        """``network([o_{t-2}, o_{t-1}, o_t])``, the frames along the last axis."""
        carry, stacked = self._stack(carry, obs, is_first)
        return carry, _output(self.network, stacked)

    def segment(self, carry: Obs, obs: Obs, is_first: Bool[Array, " T"]) -> Float[Array, "T A"]:
        """A scan builds the stacks, then the network maps all at once."""
        _, stacked = jax.lax.scan(lambda c, row: self._stack(c, *row), carry, (obs, is_first))
        return jax.vmap(lambda o: _output(self.network, o))(stacked)

    def _stack(self, carry: Obs, obs: Obs, is_first: Array) -> tuple[Obs, Obs]:
        def window_of(before: Array, now: Array) -> Array:
            first = jnp.broadcast_to(now, before.shape)
            return jnp.concatenate([jnp.where(is_first, first, before), now[None]])

        def side_by_side(frames: Array) -> Array:
            return jnp.moveaxis(frames, 0, -2).reshape(*frames.shape[1:-1], -1)

        window = jax.tree.map(window_of, carry, obs)
        return jax.tree.map(lambda frames: frames[1:], window), jax.tree.map(side_by_side, window)


class RecurrentActor(AbstractPPOActor[Float[Array, "L P 2"]]):
    """A resettable S5 core over tokens; the head reads its output and the token."""

    encoder: ImageEncoder | None  # vectors are their own tokens
    core: S5
    head: TanhMLP

    def initial(self) -> Float[Array, "L P 2"]:
        """Zero states."""
        return self.core.initial()

    def __call__(
        self, carry: Float[Array, "L P 2"], obs: Obs, is_first: Bool[Array, ""]
    ) -> tuple[Float[Array, "L P 2"], Float[Array, " A"]]:
        """``x_t, h_t = core(x_{t-1}, e(o_t));  head([h_t, e(o_t)])``."""
        token = token_of(self.encoder, obs)
        carry, h = self.core.step(carry, token, is_first)
        return carry, self.head(jnp.concatenate([h, token]))

    def segment(
        self, carry: Float[Array, "L P 2"], obs: Obs, is_first: Bool[Array, " T"]
    ) -> Float[Array, "T A"]:
        """The parallel scan; gradients do not flow into the memory before the segment."""
        tokens = jax.vmap(lambda o: token_of(self.encoder, o))(obs)
        _, h = self.core.scan(jax.lax.stop_gradient(carry), tokens, is_first)
        return jax.vmap(self.head)(jnp.concatenate([h, tokens], axis=-1))


@dataclass(frozen=True, kw_only=True)
class ActorSizes:
    """Sizes of an actor."""

    hidden: tuple[int, ...]
    image: ImageConfig

    def network(self, spec: EnvSpec, *, frames: int = 1, key: Key) -> Network:
        """A network for so many observations of this spec side by side."""
        k_encoder, k_head = jr.split(key)
        shape = (*spec.obs_shape[:-1], frames * spec.obs_shape[-1])
        if not spec.has_images:
            return self.head(shape[0], spec.action_size, key=key)
        encoder = build_encoder(self.image, shape, key=k_encoder)
        inputs = token_size(self.image, shape) + frames * spec.vector_size
        return ImageMLP(encoder, self.head(inputs, spec.action_size, key=k_head))

    def head(self, inputs: int, actions: int, *, key: Key) -> TanhMLP:
        """A head whose outputs start near zero."""
        return TanhMLP((inputs, *self.hidden, actions), out_scale=0.01, key=key)


@dataclass(frozen=True, kw_only=True)
class FrameStackConfig:
    """Memory by the last few observations."""

    frames: int = 3

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise ValueError(f"ppo.memory.frames is {self.frames}; stack at least 2, or use no memory (null)")

    @property
    def rows(self) -> int:
        """Length of a training segment: every time step is stored with the frames before it."""
        return 1

    def build(self, sizes: ActorSizes, spec: EnvSpec, *, key: Key) -> StackActor:
        """The actor."""
        return StackActor(sizes.network(spec, frames=self.frames, key=key), self.frames, spec)


@dataclass(frozen=True, kw_only=True)
class S5MemoryConfig:
    """Memory by a resettable S5 core, trained through segments of time steps."""

    core: S5Config = field(default_factory=lambda: S5Config(width=64, state_size=32, layers=1, dt_max=1.0))
    rows: int = 16  # time steps of a training segment; the rest of a rollout is not trained

    def __post_init__(self) -> None:
        if self.rows < 2:
            raise ValueError(f"ppo.memory.rows is {self.rows}; a memory learns from at least 2 time steps")

    def build(self, sizes: ActorSizes, spec: EnvSpec, *, key: Key) -> RecurrentActor:
        """The actor."""
        k_encoder, k_core, k_head = jr.split(key, 3)
        encoder = build_encoder(sizes.image, spec.obs_shape, key=k_encoder) if spec.has_images else None
        tokens = token_size(sizes.image, spec.obs_shape) if spec.has_images else spec.obs_shape[0]
        tokens += spec.vector_size
        core = self.core.build(tokens, key=k_core)
        return RecurrentActor(
            encoder, core, sizes.head(self.core.width + tokens, spec.action_size, key=k_head)
        )


MemoryConfig = FrameStackConfig | S5MemoryConfig
PPOActor: TypeAlias = AbstractPPOActor[Any]


def build_actor(memory: MemoryConfig | None, sizes: ActorSizes, spec: EnvSpec, *, key: Key) -> PPOActor:
    """The actor with this memory, or with none."""
    if memory is None:
        return ReactiveActor(sizes.network(spec, key=key))
    return memory.build(sizes, spec, key=key)


ActionDistribution: TypeAlias = Normal | OneHots


def action_distribution(
    spec: ActionSpec, out: Float[Array, "*b A"], log_std: Float[Array, " A"] | None
) -> ActionDistribution:
    """Action distribution of an actor's output: means, or logits of discrete actions."""
    if log_std is None:
        assert not isinstance(spec, Box), "numbers have a spread"
        return OneHots(out, spec.groups, unimix=0.0)
    return Normal(out, jnp.broadcast_to(jnp.exp(log_std), out.shape))


class PolicyExtras(eqx.Module):
    """Stored with each transition of a rollout."""

    log_prob: Float[Array, "*b"]  # of its action
    carry: Any  # memory of the actor before it


def normalised(moments: RunningMoments | None, obs: Obs) -> Obs:
    """Numbers by their moments; images have none and stay as they are."""
    if moments is None:
        return obs
    if isinstance(obs, MixedObs):
        return MixedObs(obs.image, moments.normalise(jnp.asarray(obs.vector)))
    return moments.normalise(obs)
