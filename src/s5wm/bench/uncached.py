"""Compiling in earnest: what is timed must not come from the cache of compiled programs."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def uncached() -> Generator[None]:
    """Programs are compiled in here, whatever cache is in use outside."""
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    config: Any = jax.config
    before = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    reset_cache()  # JAX asks the switch once
    try:
        yield
    finally:
        config.update("jax_enable_compilation_cache", before)
        reset_cache()
