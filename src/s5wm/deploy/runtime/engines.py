"""Exported policies that run: an ONNX file, or the C file compiled as a shared library.  No JAX.

An engine holds the memory of one vehicle.  A step takes the observation, and after an image the vector of numbers that
comes with it where the policy reads one.  One whose inputs do not fit or are not finite, or whose result is not,
raises ``ObservationError`` and leaves the memory as it was.
"""

import ctypes
import math
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from s5wm.deploy.inputs import NAMES, Array, check_finite, check_sizes, overflow
from s5wm.errors import ConfigError

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

    def step(self, *inputs: Array) -> Action:
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
        self._shapes: dict[str, tuple[int, ...]] = {name: shapes[name] for name in NAMES if name in shapes}
        self._sizes = {name: math.prod(shape) for name, shape in self._shapes.items()}
        self.memory = np.zeros(shapes["h_in"][1] if "h_in" in shapes else 0, np.float32)

    def reset(self) -> None:
        """Reset the memory."""
        self.memory = np.zeros_like(self.memory)

    def step(self, *inputs: Array) -> Action:
        """One inference."""
        check_sizes(inputs, self._sizes)
        check_finite(inputs)
        shaped = zip(self._shapes.items(), inputs, strict=True)
        feed = {name: array.reshape(shape) for (name, shape), array in shaped}
        if self.memory.size:
            feed["h_in"] = self.memory[None]
        results: list[Any] = list(self._session.run(None, feed))
        action, *memory = (result[0] for result in results)
        if not all(np.isfinite(array).all() for array in (action, *memory)):
            raise overflow(inputs)
        if memory:
            self.memory = memory[0]
        return action


class CEngine:
    """``policy.c`` as a shared library, which the compiler of this machine makes in a folder of its own."""

    def __init__(self, folder: Path, *, compiler: str | None = None) -> None:
        text = (folder / "policy.h").read_text(encoding="utf-8")
        size = {name: _define(text, name) for name in ("ACTIONS", "MEMORY", "SCRATCH")}
        named = [name for name in NAMES if f" policy_{name};" in text]
        self._sizes = {name: _define(text, name.upper()) for name in named}
        self._dtypes = [np.uint8 if f"uint8_t policy_{name};" in text else np.float32 for name in named]
        with tempfile.TemporaryDirectory(
            prefix="s5wm-policy-"
        ) as made:  # once loaded, the file is not needed
            self._library = ctypes.CDLL(str(compile_library(folder, Path(made), compiler)))
        self._library.policy_selftest.restype = ctypes.c_float
        self._room = max(size["MEMORY"], 1)
        self._state = np.zeros(self._room + size["SCRATCH"], np.float32)
        self._action = np.zeros(size["ACTIONS"], np.float32)
        self.memory = self._state[: size["MEMORY"]]

    def reset(self) -> None:
        """Reset the memory."""
        self._library.policy_reset(_pointer(self._state))

    def step(self, *inputs: Array) -> Action:
        """One call."""
        check_sizes(inputs, self._sizes)
        taken = tuple(map(np.ascontiguousarray, inputs, self._dtypes))
        code = self._library.policy_step(*map(_pointer, (self._state, *taken, self._action)))
        if code == 1:
            check_finite(taken)
        if code:
            raise overflow(taken)
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


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _define(header: str, name: str) -> int:
    line = next(line for line in header.splitlines() if line.startswith(f"#define POLICY_{name} "))
    return int(line.split()[2])
