"""S5 as a sequence core: a stack of resettable diagonal state-space blocks, and its configuration.

A block is pre-norm: ``v = RMSNorm(in); g = GELU(SSM(v)); out = in + gate(g)`` (Smith et al. 2023, with
RMSNorm in place of batch norm, which would mix time steps and has no single-step mode).
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float

from s5wm.nn.core import AbstractCore
from s5wm.nn.hippo import block_spectrum
from s5wm.nn.mlp import Linear, RMSNorm
from s5wm.nn.ssm import DiagonalSSM, Discretization, GemmDtype, SSMOptions
from s5wm.ops.pairs import ComplexPair
from s5wm.ops.recurrence import ScanMethod
from s5wm.types import Key


class Gate(enum.StrEnum):
    """Output gate of a block."""

    FULL = "full"  # (W1 g + b1) * sigmoid(W2 g + b2)
    HALF = "half"  # g * sigmoid(W2 g + b2)


class FullGate(eqx.Module):
    """``(W1 g + b1) * sigmoid(W2 g + b2)``; both maps are one matrix product."""

    linear: Linear

    def __init__(self, width: int, *, key: Key) -> None:
        self.linear = Linear(width, 2 * width, key=key)

    def __call__(self, g: Float[Array, "*t D"]) -> Float[Array, "*t D"]:
        """Gate the features."""
        value, gate = jnp.split(self.linear(g), 2, axis=-1)
        return value * jax.nn.sigmoid(gate)


class HalfGate(eqx.Module):
    """``g * sigmoid(W2 g + b2)``."""

    linear: Linear

    def __init__(self, width: int, *, key: Key) -> None:
        self.linear = Linear(width, width, key=key)

    def __call__(self, g: Float[Array, "*t D"]) -> Float[Array, "*t D"]:
        """Gate the features."""
        return g * jax.nn.sigmoid(self.linear(g))


_GATES: dict[Gate, type[FullGate] | type[HalfGate]] = {Gate.FULL: FullGate, Gate.HALF: HalfGate}


class S5Block(eqx.Module):
    """Norm, state-space layer, GELU, gate and residual."""

    norm: RMSNorm
    ssm: DiagonalSSM
    gate: FullGate | HalfGate

    def step(
        self, x: ComplexPair, u: Float[Array, " D"], is_first: Bool[Array, ""]
    ) -> tuple[ComplexPair, Float[Array, " D"]]:
        """New state (parts ``[P]``) and output."""
        x, y = self.ssm.step(x, self.norm(u), is_first)
        return x, u + self.gate(jax.nn.gelu(y))

    def scan(
        self, x: ComplexPair, u: Float[Array, "T D"], is_first: Bool[Array, " T"]
    ) -> tuple[ComplexPair, Float[Array, "T D"]]:
        """States at every t (parts ``[T, P]``) and outputs."""
        states, y = self.ssm.scan(x, self.norm(u), is_first)
        return states, u + self.gate(jax.nn.gelu(y))


@dataclass(frozen=True, kw_only=True)
class S5Config:
    """Sizes and choices of an S5 stack."""

    width: int = 256  # D, inputs of each block and outputs
    state_size: int = 128  # full real state per layer; half as many complex numbers are stored
    layers: int = 2
    block_size: int = 16  # HiPPO block; its largest frequency is about block_size^2 / pi
    dt_min: float = 1e-3  # time steps are log-uniform at the start; a mode remembers about 2 / dt steps
    dt_max: float = 1e-1  # 0.5 to 1.0 gives some modes that forget within a few steps
    discretization: Discretization = Discretization.ZOH
    gate: Gate = Gate.FULL
    output_scale: float = (
        1.0  # initial scale of the last norm: magnitude of h_t relative to z_t for heads that read both
    )
    scan: ScanMethod = ScanMethod.AUTO
    gemm_dtype: GemmDtype = GemmDtype.FLOAT32

    def __post_init__(self) -> None:
        """Reject sizes that cannot be built."""
        for name in ("width", "state_size", "layers", "block_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"S5Config.{name} is {getattr(self, name)}; it must be at least 1")
        if self.block_size % 2:
            raise ValueError(
                f"S5Config.block_size is {self.block_size}; it must be even, because half of each block is stored"
            )
        if self.state_size % self.block_size:
            raise ValueError(
                f"S5Config.state_size is {self.state_size}, not a multiple of block_size {self.block_size}; "
                "choose a multiple, or a smaller block"
            )
        if self.output_scale <= 0.0:
            raise ValueError(f"S5Config.output_scale is {self.output_scale}; it must be above 0")
        if not 0.0 < self.dt_min <= self.dt_max:
            raise ValueError(
                f"S5Config has dt_min {self.dt_min} and dt_max {self.dt_max}; it needs 0 < dt_min <= dt_max"
            )

    @property
    def stored_states(self) -> int:
        """Complex states kept per layer, the ``P`` of a memory ``[L, P, 2]``."""
        return self.state_size // 2

    @property
    def inputs(self) -> int:
        """Width of the embedded inputs of a world model's core, which need no projection."""
        return self.width

    @property
    def unroll(self) -> int:
        """Steps per iteration where a posterior that reads the memory forces a loop over time."""
        return 1

    def build(self, inputs: int, *, key: Key) -> "S5":
        """A stack fed with vectors of ``inputs`` numbers (projected unless that is ``width`` already)."""
        return S5(self, inputs, key=key)


class S5(AbstractCore[Float[Array, "L P 2"]]):
    """A stack of S5 blocks over one sequence; ``vmap`` adds a batch.

    A memory holds the complex states of all layers as float32 pairs; it is enough to continue from, and
    every layer is reset by the same flag.  Gradients flow through a memory: stop them at data carried in.
    ``step`` uses real arithmetic only, so it exports.
    """

    project: Linear | None
    blocks: tuple[S5Block, ...]
    norm: RMSNorm

    def __init__(self, config: S5Config, inputs: int, *, key: Key) -> None:
        k_project, *k_blocks = jr.split(key, config.layers + 1)
        self.project = None if inputs == config.width else Linear(inputs, config.width, key=k_project)
        self.blocks = tuple(_block(config, key=k_block) for k_block in k_blocks)
        self.norm = RMSNorm(config.width, config.output_scale)

    def initial(self) -> Float[Array, "L P 2"]:
        """Zero states."""
        return jnp.zeros((len(self.blocks), self.blocks[0].ssm.nu.shape[0], 2))

    def step(
        self, memory: Float[Array, "L P 2"], u: Float[Array, " U"], is_first: Bool[Array, ""]
    ) -> tuple[Float[Array, "L P 2"], Float[Array, " D"]]:
        """One step of every layer."""
        return self._stack(S5Block.step, memory, u, is_first)

    def scan(
        self, memory: Float[Array, "L P 2"], u: Float[Array, "T U"], is_first: Bool[Array, " T"]
    ) -> tuple[Float[Array, "T L P 2"], Float[Array, "T D"]]:
        """A whole sequence, layer by layer, parallel in time; the memories after every step, and outputs."""
        return self._stack(S5Block.scan, memory, u, is_first)

    def _stack(
        self,
        advance: Callable[..., tuple[ComplexPair, Float[Array, "*t D"]]],
        memory: Float[Array, "L P 2"],
        u: Float[Array, "*t U"],
        is_first: Bool[Array, "*t"],
    ) -> tuple[Float[Array, "*t L P 2"], Float[Array, "*t D"]]:
        h = u if self.project is None else self.project(u)
        states: list[Float[Array, "*t P 2"]] = []
        for layer, block in enumerate(self.blocks):
            x, h = advance(block, ComplexPair.unstacked(memory[layer]), h, is_first)
            states.append(x.stacked())
        return jnp.stack(states, axis=-3), self.norm(h)


def _block(config: S5Config, *, key: Key) -> S5Block:
    k_ssm, k_gate = jr.split(key)
    options = SSMOptions(
        discretization=config.discretization, scan_method=config.scan, gemm_dtype=config.gemm_dtype
    )
    spectrum = block_spectrum(config.state_size, config.block_size)
    ssm = DiagonalSSM(config.width, spectrum, (config.dt_min, config.dt_max), options, key=k_ssm)
    return S5Block(RMSNorm(config.width), ssm, _GATES[config.gate](config.width, key=k_gate))
