"""Exported policies that run: an ONNX file, or the C file compiled as a shared library.  No JAX.

An engine holds the memory of one vehicle.  A step whose observation or result is not finite raises
``ObservationError`` and leaves the memory as it was.
"""

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped

from s5wm.errors import ConfigError, ObservationError

Obs = Shaped[np.ndarray, "..."]
Action = Float[np.ndarray, " A"]

COMPILERS = ("cc", "gcc", "clang")
C_FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror")


@runtime_checkable
class Engine(Protocol):
    """One policy with its memory."""

    memory: Float[np.ndarray, " M"]

    def reset(self) -> None:
        """Reset the memory."""
        ...

    def step(self, obs: Obs) -> Action:
        """The action in ``[-1, 1]`` for an observation."""
        ...


class OnnxEngine:
    """ONNX Runtime on one thread."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ConfigError(
                "ONNX files need ONNX Runtime: pip install 's5wm[deploy]', or use --engine c"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        shapes = {each.name: tuple(each.shape) for each in self._session.get_inputs()}
        self._obs_shape: tuple[int, ...] = shapes["obs"]
        self.memory = np.zeros(shapes["h_in"][1] if "h_in" in shapes else 0, np.float32)

    def reset(self) -> None:
        """Reset the memory."""
        self.memory = np.zeros_like(self.memory)

    def step(self, obs: Obs) -> Action:
        """One inference."""
        _check_finite(obs)
        feed = {"obs": obs.reshape(self._obs_shape)}
        if self.memory.size:
            feed["h_in"] = self.memory[None]
        results: list[Any] = list(self._session.run(None, feed))
        action, *memory = (result[0] for result in results)
        if not all(np.isfinite(array).all() for array in (action, *memory)):
            raise ObservationError(
                f"the policy overflows on an observation as large as {np.abs(obs).max():g}"
            )
        if memory:
            self.memory = memory[0]
        return action


class CEngine:
    """``policy.c`` as a shared library, which the compiler of this machine makes in a folder of its own."""

    def __init__(self, folder: Path, *, compiler: str | None = None) -> None:
        text = (folder / "policy.h").read_text(encoding="utf-8")
        size = {name: _define(text, name) for name in ("OBS", "ACTIONS", "MEMORY", "SCRATCH")}
        with tempfile.TemporaryDirectory(
            prefix="s5wm-policy-"
        ) as made:  # once loaded, the file is not needed
            self._library = ctypes.CDLL(str(compile_library(folder, Path(made), compiler)))
        self._library.policy_selftest.restype = ctypes.c_float
        self._room = max(size["MEMORY"], 1)
        self._state = np.zeros(self._room + size["SCRATCH"], np.float32)
        self._action = np.zeros(size["ACTIONS"], np.float32)
        self._dtype = np.uint8 if "uint8_t policy_obs" in text else np.float32
        self.memory = self._state[: size["MEMORY"]]

    def reset(self) -> None:
        """Reset the memory."""
        self._library.policy_reset(_pointer(self._state))

    def step(self, obs: Obs) -> Action:
        """One call."""
        obs = np.ascontiguousarray(obs, self._dtype)
        code = self._library.policy_step(_pointer(self._state), _pointer(obs), _pointer(self._action))
        if code == 1:
            _check_finite(obs)
        if code:
            raise ObservationError(
                f"the policy overflows on an observation as large as {np.abs(obs).max():g}"
            )
        return self._action.copy()

    def selftest(self) -> float:
        """Largest error over the embedded flight; the memory is reset."""
        return float(self._library.policy_selftest(_pointer(self._state)))


def compile_library(folder: Path, out: Path, compiler: str | None = None) -> Path:
    """``policy.so`` in ``out`` of the C file in ``folder``; raises ``ConfigError`` where that is not possible."""
    compiler = compiler or find_compiler()
    if compiler is None:
        raise ConfigError(
            f"no C compiler ({', '.join(COMPILERS)}) on this machine: install one, or use --engine onnx"
        )
    library = out / "policy.so"
    command = [compiler, *C_FLAGS, "-shared", "-fPIC", "-o", str(library), str(folder / "policy.c"), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{compiler} cannot compile {folder / 'policy.c'}: {done.stderr.strip()[:500]}")
    return library


def find_compiler() -> str | None:
    """A C compiler of this machine."""
    return next((name for name in COMPILERS if shutil.which(name)), None)


def _check_finite(obs: Obs) -> None:
    if not np.isfinite(obs).all():
        place = np.argwhere(~np.isfinite(obs))[0]
        raise ObservationError(
            f"the observation is {obs[tuple(place)]} at index {', '.join(map(str, place))}"
        )


def _pointer(array: Obs) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _define(header: str, name: str) -> int:
    line = next(line for line in header.splitlines() if line.startswith(f"#define POLICY_{name} "))
    return int(line.split()[2])
