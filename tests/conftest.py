"""What holds for every test: JAX settings that turn silent conversions into errors, and shared fixtures."""

import os
from collections.abc import Iterator

# Before JAX is imported: tests are about meaning, and small; a GPU would only slow them.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from hypothesis import HealthCheck, settings

# A forgotten axis fails instead of broadcasting.  Strict dtype promotion would be welcome too, but optax multiplies
# Python floats with integer counters, which it forbids.
jax.config.update("jax_numpy_rank_promotion", "raise")

settings.register_profile(
    "s5wm",
    deadline=None,  # the first example compiles
    max_examples=20,
    derandomize=True,  # the same examples on every machine
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("s5wm")


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision inside one test."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)
