"""Compiling in earnest: what is timed must not come from the cache of compiled programs."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncached() -> Iterator[None]:
    """Programs are compiled in here, whatever cache is in use outside."""
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    before = jax.config.read("jax_enable_compilation_cache")
    jax.config.update("jax_enable_compilation_cache", False)
    reset_cache()  # JAX asks the switch once
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        reset_cache()
