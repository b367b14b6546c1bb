"""What holds for every test: JAX settings that turn silent conversions into errors, and shared fixtures."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Before JAX is imported: tests are about meaning, and small; a GPU would only slow them.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of a test's time is compilation.  What one test compiled another need not, nor the next run of the tests, nor
# the processes that tests begin; a program is found by its text, its options and the versions that compiled it.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest
from hypothesis import HealthCheck, settings
from jaxlib import xla_client

# A shell starts programs in the background with Ctrl-C ignored, and programs that tests begin would ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _known(flags: str) -> str:
    """The flags, or none where this XLA does not know them: it would end the process, so another one tries."""
    environ = os.environ | {"XLA_FLAGS": flags}
    reads = "from jaxlib import xla_client; xla_client.CompileOptions()"
    tried = subprocess.run([sys.executable, "-c", reads], env=environ, check=False, capture_output=True)
    return "" if tried.returncode else flags


ROUGHLY = _known("--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")
"""Flags of XLA for tests, which are about what a program does and not about its pace: it is compiled in half the time.

The processes that tests begin are begun as users do, without them, except where all that they do is to train.
"""

ROUGH = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": ROUGHLY}
"""Environment of a process that compiles so."""

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} {ROUGHLY}")
    xla_client.CompileOptions()  # reads them, once

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: a long one at the end would run on one worker while the other waits."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def well_compiled() -> Iterator[None]:
    """For tests of a program's pace, or of numbers that rough compilation moves."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision inside one test."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)
