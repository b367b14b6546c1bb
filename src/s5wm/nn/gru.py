"""DreamerV3's block GRU as a sequence core (Hafner et al. 2023, and the official implementation).

    e_t = SiLU(norm(W_e h))                            what all blocks see of each other
    m_t = SiLU(norm(blocks(h) + W [e_t, u_t]))         a hidden layer as wide as h
    r, c, f = blocks(m_t)                              reset, candidate, update
    h' = f' c' + (1 - f') h,   c' = tanh(sigmoid(r) c),   f' = sigmoid(f - 1)

``blocks`` is block-diagonal.  The official code concatenates ``[e, u]`` to every block's slice of h; a block-linear map
of repeated inputs is a dense map, which is ``W``.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float

from s5wm.nn.core import AbstractCore
from s5wm.nn.mlp import Linear, RMSNorm, fan_in_normal
from s5wm.types import Key


class BlockLinear(eqx.Module):
    """``y_g = W_g x_g`` for each of ``G`` equal slices of the last axis; no bias."""

    weight: Float[Array, "G out in"]

    def __init__(self, blocks: int, inputs: int, outputs: int, *, fan_in: int, key: Key) -> None:
        """``inputs`` and ``outputs`` of one block; ``fan_in`` sets the scale of the initial weights."""
        self.weight = fan_in_normal(key, (blocks, outputs, inputs), fan_in=fan_in)

    def __call__(self, x: Float[Array, " in_all"]) -> Float[Array, "G out"]:
        """Block by block."""
        slices = x.reshape(self.weight.shape[0], -1)
        return jnp.einsum("goi,gi->go", self.weight, slices)


@dataclass(frozen=True, kw_only=True)
class BlockGRUConfig:
    """Defaults are DreamerV3's of size 12m."""

    width: int = 2048  # of h
    hidden: int = 256  # of e, and of each embedding of the inputs
    blocks: int = 8
    unroll: int = (
        1  # steps per iteration of the loop over time, the posterior's too where that reads the memory
    )

    def __post_init__(self) -> None:
        for name in ("width", "hidden", "blocks", "unroll"):
            if getattr(self, name) < 1:
                raise ValueError(f"core.{name} is {getattr(self, name)}; it must be at least 1")
        if self.width % self.blocks:
            raise ValueError(
                f"core.width is {self.width} and core.blocks {self.blocks}; the width must be a multiple of the "
                f"blocks, e.g. {self.blocks * max(self.width // self.blocks, 1)}"
            )

    @property
    def inputs(self) -> int:
        """Width of the embedded inputs: the official code embeds latent and action apart, ``hidden`` each."""
        return 2 * self.hidden

    def build(self, inputs: int, *, key: Key) -> "BlockGRU":
        """The core for inputs of this width."""
        return BlockGRU(self, inputs, key=key)


class BlockGRU(AbstractCore[Float[Array, " D"]]):
    """Memory and output are both ``h``."""

    hidden: Linear
    hidden_norm: RMSNorm
    dyn: BlockLinear
    dyn_hidden: Float[Array, "D hidden"]
    dyn_input: Linear
    dyn_norm: RMSNorm
    gates: BlockLinear
    gate_bias: Float[Array, "G gates"]
    unroll: int = eqx.field(static=True)

    def __init__(self, config: BlockGRUConfig, inputs: int, *, key: Key) -> None:
        k_hidden, k_dyn, k_dyn_hidden, k_dyn_input, k_gates = jr.split(key, 5)
        width, hidden, blocks = config.width, config.hidden, config.blocks
        share = width // blocks
        # The official initialiser counts the inputs of all blocks as the fan-in of each.
        fan_in = blocks * (share + hidden + inputs)
        self.hidden = Linear(width, hidden, key=k_hidden)
        self.hidden_norm = RMSNorm(hidden)
        self.dyn = BlockLinear(blocks, share, share, fan_in=fan_in, key=k_dyn)
        self.dyn_hidden = fan_in_normal(k_dyn_hidden, (width, hidden), fan_in=fan_in)
        self.dyn_input = Linear(inputs, width, key=k_dyn_input, scale=(inputs / fan_in) ** 0.5)
        self.dyn_norm = RMSNorm(width)
        self.gates = BlockLinear(blocks, share, 3 * share, fan_in=blocks * share, key=k_gates)
        self.gate_bias = jnp.zeros((blocks, 3 * share))
        self.unroll = config.unroll

    def initial(self) -> Float[Array, " D"]:
        """Zeros."""
        return jnp.zeros(self.dyn_hidden.shape[0])

    def step(
        self, memory: Float[Array, " D"], u: Float[Array, " U"], is_first: Bool[Array, ""]
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """One step."""
        h = self._advance(memory, self.dyn_input(u), is_first)
        return h, h

    def scan(
        self, memory: Float[Array, " D"], u: Float[Array, "T U"], is_first: Bool[Array, " T"]
    ) -> tuple[Float[Array, "T D"], Float[Array, "T D"]]:
        """Step by step; what the inputs contribute is computed for all steps at once before."""

        def advance(h: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
            h = self._advance(h, *inputs)
            return h, h

        _, hs = jax.lax.scan(advance, memory, (self.dyn_input(u), is_first), unroll=self.unroll)
        return hs, hs

    def _advance(
        self, h: Float[Array, " D"], driven: Float[Array, " D"], is_first: Bool[Array, ""]
    ) -> Float[Array, " D"]:
        h = jnp.where(is_first, 0.0, h)
        hidden = jax.nn.silu(self.hidden_norm(self.hidden(h)))
        mixed = self.dyn(h).reshape(-1) + self.dyn_hidden @ hidden + driven
        mixed = jax.nn.silu(self.dyn_norm(mixed))
        reset, candidate, update = jnp.split(self.gates(mixed) + self.gate_bias, 3, axis=-1)
        candidate = jnp.tanh(jax.nn.sigmoid(reset) * candidate).reshape(-1)
        update = jax.nn.sigmoid(update - 1.0).reshape(-1)
        return update * candidate + (1.0 - update) * h
