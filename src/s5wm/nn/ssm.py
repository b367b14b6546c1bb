"""The diagonal state-space layer of S5: parameters, discretisation, one step and the parallel pass.

    dx/dt = Lambda x + B u,   y = 2 Re(C x) + D * u        (half of a conjugate-symmetric state is stored)

Axes: ``P`` stored complex states, ``D`` inputs and outputs, ``T`` time.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float
from numpy.typing import NDArray

from s5wm.nn.hippo import Spectrum
from s5wm.ops.pairs import ComplexPair
from s5wm.ops.recurrence import ScanMethod, linear_recurrence
from s5wm.types import Key

# Bounds far outside what training visits: they keep |Lambda| Delta representable and Re Lambda <= -1e-4,
# so a diverged optimiser yields a slow or dead mode instead of a NaN.
_NU_RANGE = (-9.2, 20.0)
_LOG_DT_RANGE = (-14.0, 7.0)


def zoh(eigenvalues: ComplexPair, dt: Float[Array, " P"]) -> tuple[ComplexPair, ComplexPair]:
    """Zero-order hold: ``Lambda_bar = exp(Lambda dt)`` and the input gain ``(Lambda_bar - 1) / Lambda``."""
    z = eigenvalues.scaled(dt)
    return z.exp(), z.expm1() * eigenvalues.reciprocal()


def bilinear(eigenvalues: ComplexPair, dt: Float[Array, " P"]) -> tuple[ComplexPair, ComplexPair]:
    """Tustin: ``g = 1 / (1 - dt Lambda / 2)``, ``Lambda_bar = g (1 + dt Lambda / 2)``, input gain ``g dt``."""
    half = eigenvalues.scaled(0.5 * dt)
    g = ComplexPair(1.0 - half.re, -half.im).reciprocal()
    return g * ComplexPair(1.0 + half.re, half.im), g.scaled(dt)


class Discretization(enum.StrEnum):
    """From continuous to discrete time."""

    ZOH = "zoh"
    BILINEAR = "bilinear"


class GemmDtype(enum.StrEnum):
    """Input type of the two matrix products of a layer; they accumulate in float32 either way."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


DISCRETIZE: dict[
    Discretization, Callable[[ComplexPair, Float[Array, " P"]], tuple[ComplexPair, ComplexPair]]
] = {
    Discretization.ZOH: zoh,
    Discretization.BILINEAR: bilinear,
}


@dataclass(frozen=True, kw_only=True)
class SSMOptions:
    """Choices of a layer that are not numbers; ``S5Config`` is the home of their defaults."""

    discretization: Discretization
    scan_method: ScanMethod
    gemm_dtype: GemmDtype


class DiagonalSSM(eqx.Module):
    """One S5 layer without norm and gate, for one sequence.

    ``Re Lambda = -exp(nu) < 0`` always, so no parameter value makes the layer unstable.  The recurrence
    runs in float32 whatever ``options.gemm_dtype`` is.
    """

    nu: Float[Array, " P"]
    omega: Float[Array, " P"]
    log_dt: Float[Array, " P"]
    b: ComplexPair  # [P, D]
    c: ComplexPair  # [D, P]
    d: Float[Array, " D"]
    options: SSMOptions = eqx.field(static=True)

    def __init__(
        self,
        width: int,
        spectrum: Spectrum,
        dt_range: tuple[float, float],
        options: SSMOptions,
        *,
        key: Key,
    ) -> None:
        """Start from ``spectrum`` with time steps log-uniform in ``dt_range`` (in units of one step).

        ``B`` and ``C`` are drawn row-wise lecun-normal in the real basis and rotated by the eigenvectors.
        """
        k_dt, k_b, k_c, k_d = jr.split(key, 4)
        state, stored = spectrum.eigenvectors.shape
        low, high = np.log(dt_range[0]), np.log(dt_range[1])
        rows = jax.nn.initializers.lecun_normal(in_axis=-1, out_axis=-2, batch_axis=0)
        rotation = ComplexPair(_f32(spectrum.eigenvectors.real), _f32(spectrum.eigenvectors.imag))
        b = rows(k_b, (1, state, width))[0]
        c = ComplexPair(*rows(k_c, (2, width, state)))
        self.nu = _f32(np.log(-spectrum.eigenvalues.real))
        self.omega = _f32(spectrum.eigenvalues.imag)
        self.log_dt = jr.uniform(k_dt, (stored,), minval=low, maxval=high)
        self.b = ComplexPair(rotation.re.T @ b, -rotation.im.T @ b)
        self.c = ComplexPair(
            c.re @ rotation.re - c.im @ rotation.im,
            c.re @ rotation.im + c.im @ rotation.re,
        )
        self.d = jr.normal(k_d, (width,))
        self.options = options

    def eigenvalues(self) -> ComplexPair:
        """``Lambda = -exp(nu) + i omega``, parts ``[P]``."""
        return ComplexPair(-jnp.exp(jnp.clip(self.nu, *_NU_RANGE)), self.omega)

    def discretize(self) -> tuple[ComplexPair, ComplexPair]:
        """``Lambda_bar`` with parts ``[P]`` and ``B_bar`` with parts ``[P, D]``."""
        dt = jnp.exp(jnp.clip(self.log_dt, *_LOG_DT_RANGE))
        decay, gain = DISCRETIZE[self.options.discretization](self.eigenvalues(), dt)
        return decay, gain[:, None] * self.b

    def step(
        self, x: ComplexPair, u: Float[Array, " D"], is_first: Bool[Array, ""]
    ) -> tuple[ComplexPair, Float[Array, " D"]]:
        """``x_t = Lambda_bar x_{t-1} + B_bar u_t`` and ``y_t``; ``x_t`` already contains ``u_t``."""
        decay, b_bar = self.discretize()
        x = decay * x.masked(is_first) + self._drive(b_bar, u)
        return x, self._readout(x, u)

    def scan(
        self, x0: ComplexPair, u: Float[Array, "T D"], is_first: Bool[Array, " T"]
    ) -> tuple[ComplexPair, Float[Array, "T D"]]:
        """All states (parts ``[T, P]``) and outputs of a sequence; equal to folding ``step``."""
        decay, b_bar = self.discretize()
        x = linear_recurrence(decay, self._drive(b_bar, u), x0, is_first, self.options.scan_method)
        return x, self._readout(x, u)

    def _drive(self, b_bar: ComplexPair, u: Float[Array, "*t D"]) -> ComplexPair:
        """``B_bar u`` as one real product ``[.., D] x [D, 2 P]``."""
        weight = jnp.concatenate([b_bar.re, b_bar.im])
        return ComplexPair(*jnp.split(self._gemm(u, weight), 2, axis=-1))

    def _readout(self, x: ComplexPair, u: Float[Array, "*t D"]) -> Float[Array, "*t D"]:
        """``2 Re(C x) + D * u`` as one real product ``[.., 2 P] x [2 P, D]``."""
        weight = jnp.concatenate([2.0 * self.c.re, -2.0 * self.c.im], axis=-1)
        return (
            self._gemm(jnp.concatenate([x.re, x.im], axis=-1), weight) + jnp.broadcast_to(self.d, u.shape) * u
        )

    def _gemm(self, x: Float[Array, "*t I"], weight: Float[Array, "O I"]) -> Float[Array, "*t O"]:
        if self.options.gemm_dtype == GemmDtype.FLOAT32:
            return x @ weight.T
        low = jnp.dtype(self.options.gemm_dtype.value)
        return jnp.matmul(x.astype(low), weight.T.astype(low), preferred_element_type=x.dtype)


def ssm_parameter_labels(tree: Any) -> Any:
    """``"ssm"`` for every ``nu``, ``omega`` and ``log_dt`` of an S5 layer in ``tree``, ``"rest"`` elsewhere.

    The result has the structure of ``tree`` (parameters, gradients or updates), as ``optax.partition`` and
    ``optax.masked`` want it.  These few numbers set memory lengths and frequencies and need a larger
    learning rate than weights do: an adaptive optimiser moves each by at most its learning rate a step.
    """

    def label(node: Any) -> Any:
        rest = jax.tree.map(lambda _: "rest", node)
        if not isinstance(node, DiagonalSSM):
            return rest
        return eqx.tree_at(lambda layer: (layer.nu, layer.omega, layer.log_dt), rest, ("ssm", "ssm", "ssm"))

    return jax.tree.map(label, tree, is_leaf=lambda node: isinstance(node, DiagonalSSM))


def _f32(array: NDArray[np.float64]) -> Float[Array, "..."]:
    return jnp.asarray(array, jnp.float32)
