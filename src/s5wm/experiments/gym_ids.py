"""Gymnasium ids of our tasks, known once both packages are imported, in either order, and without loading JAX.

``import s5wm`` must stay light where Gymnasium is installed: Gymnasium alone costs ten times as much.  So the ids are
registered at once where it has been imported, and otherwise at the end of its import.
"""

import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from s5wm.experiments.names import GYM_IDS

REGISTRY = "gymnasium.envs.registration"


def announce() -> None:
    """Make the ids known to ``gymnasium.make`` and ``gymnasium.make_vec``, now or when Gymnasium is imported."""
    if REGISTRY in sys.modules:
        register(sys.modules[REGISTRY])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def register(registration: Any) -> None:
    """Enter the ids in Gymnasium's registry; twice does no harm."""
    for name, task in GYM_IDS.items():
        if name not in registration.registry:
            registration.register(
                name,
                entry_point="s5wm.experiments.gym_ids:make_single",
                vector_entry_point="s5wm.experiments.gym_ids:make_vector",
                kwargs={"task": task},
            )


def make_single(task: str, config: Any = None, **how: Any) -> Any:
    """Entry point of ``gymnasium.make``: a task, or ``config`` in its place.

    The races are those that are trained on; ``config=RacingConfig(...).eval_config()`` has the rules of a test.
    """
    from s5wm.envs import gymnasium
    from s5wm.experiments.tasks import task_config

    return gymnasium.make_single(task_config(task) if config is None else config, **how)


def make_vector(task: str, config: Any = None, **how: Any) -> Any:
    """Entry point of ``gymnasium.make_vec``: a batch of a task, or of ``config`` in its place."""
    from s5wm.envs import gymnasium
    from s5wm.experiments.tasks import task_config

    return gymnasium.make_vector(task_config(task) if config is None else config, **how)


class _Finder(importlib.abc.MetaPathFinder):
    """Waits for the import of Gymnasium's registry, and then is gone."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """The registry as the other finders find it, with our ids entered after it is loaded."""
        del path, target
        if fullname != REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Another loader, and the ids after it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """That of the other loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Load the registry and enter the ids."""
        self._loader.exec_module(module)
        register(module)
