"""World models on S5 state-space layers that learn to race quadrotors.

``train`` makes a run, ``load`` an agent from one, ``make`` an environment in pure JAX; ``nn.S5`` is usable on its own.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from s5wm.api import Run, load, make, train, train_seeds
from s5wm.errors import Stopped
from s5wm.experiments.gym_ids import announce

if TYPE_CHECKING:
    from s5wm import nn

__all__ = ["Run", "Stopped", "load", "make", "nn", "train", "train_seeds"]

announce()
del announce


def __getattr__(name: str) -> ModuleType:
    if name == "nn":  # pulls in JAX and Equinox, so only when asked for
        return importlib.import_module("s5wm.nn")
    raise AttributeError(f"module 's5wm' has no attribute {name!r}")
