"""What every test shares. It is imported before any test module, so JAX is configured here first."""

import gc
import itertools
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nearly all the time of a test is that of compiling: XLA's optimizations would take longer than they save,
# and its newer emitters of fused loops take half of the time in which a small function is compiled.
# What they may break is tested with them, as users compile: `make test` runs a part of the tests this way.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    ""
    if "PPL_OPTIMIZED" in os.environ
    else " --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
)

from collections.abc import Iterator

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_disable_most_optimizations", "PPL_OPTIMIZED" not in os.environ)
# JAX makes small objects by the million, and few of them die in cycles.
gc.set_threshold(200_000, 50, 100)
# A stale cache must never decide a test.
jax.config.update("jax_enable_compilation_cache", False)
# The same examples in every run: a test that fails once fails again.
settings.register_profile("ppl", deadline=None, derandomize=True, print_blob=True, database=None)
settings.load_profile("ppl")


@pytest.fixture(scope="session")
def key() -> jax.Array:
    """The key that tests start from; each derives its own with `jax.random.fold_in`."""
    return jax.random.key(20250614)


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def strict_ranks() -> Iterator[None]:
    """Arrays of unequal rank do not broadcast. Not for all tests: NumPyro's own code relies on it."""
    with jax.numpy_rank_promotion("raise"):
        yield


TESTS_A_CACHE = 300
_done = itertools.count(1)


@pytest.fixture(autouse=True)
def _memory_bounded() -> Iterator[None]:
    """What JAX has compiled is forgotten now and then, or a worker would grow to 7 GB."""
    yield
    if next(_done) % TESTS_A_CACHE == 0:
        jax.clear_caches()


@pytest.fixture(autouse=True)
def _settings_restored() -> Iterator[None]:
    """No test may leave JAX's precision changed for the next one in its process."""
    before = jax.config.jax_enable_x64
    yield
    assert jax.config.jax_enable_x64 == before, "a test changed jax_enable_x64 and did not restore it"
