"""The spectrum an S5 layer starts from: the normal part of HiPPO-LegS, in blocks.

Everything here runs once, on the host, in float64 NumPy: the eigenvectors are not accurate enough in
float32.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Spectrum(NamedTuple):
    """Half of a conjugate-symmetric spectrum: ``S = 2 Re(V diag(lambda) V^H)`` over the kept half."""

    eigenvalues: NDArray[np.complex128]  # [P/2], real parts -1/2, negative frequencies
    eigenvectors: NDArray[np.complex128]  # [P, P/2], orthonormal columns


def hippo_normal(size: int) -> NDArray[np.float64]:
    """The normal matrix ``S = A + q q^T`` of HiPPO-LegS, ``[N, N]``; ``S + I/2`` is skew-symmetric.

    ``A = -(tril(p p^T) - diag(n))``, ``p_n = sqrt(2 n + 1)``, ``q_n = sqrt(n + 1/2)``, ``n = 0..N-1``
    (Smith et al. 2023, S5, appendix B).
    """
    n = np.arange(size, dtype=np.float64)
    p = np.sqrt(2.0 * n + 1.0)
    q = np.sqrt(n + 0.5)
    return -(np.tril(np.outer(p, p)) - np.diag(n)) + np.outer(q, q)


def hippo_eigen(size: int) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """All eigenvalues (ascending frequency, exact real part -1/2) and eigenvectors of ``hippo_normal``.

    ``eigh`` of the Hermitian ``-i (S - mean(diag S) I)``, so the eigenvectors are orthonormal.
    """
    normal = hippo_normal(size)
    decay = np.mean(np.diag(normal))
    omega, vectors = np.linalg.eigh(-1j * (normal - decay * np.eye(size)))
    return decay + 1j * omega, vectors


def block_spectrum(state_size: int, block_size: int) -> Spectrum:
    """Kept half of the spectrum of ``state_size / block_size`` equal HiPPO blocks on a diagonal.

    The largest frequency is about ``block_size^2 / pi``: with big blocks the fastest modes turn many times
    per step and are lost to aliasing, hence blocks of 16 to 32 for sequences of control steps.
    """
    blocks = state_size // block_size
    eigenvalues, vectors = hippo_eigen(block_size)
    half = block_size // 2
    rotation = np.kron(np.eye(blocks), vectors[:, :half]).astype(np.complex128)
    return Spectrum(np.tile(eigenvalues[:half], blocks), rotation)
