"""jax with four CPU devices, for the sharding tests; every test runs on the CPU, and at level L1 on a GPU too."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("jax") else ["test_*.py"]

# Read when jax first looks for devices. Without preallocation torch's tests find memory in the same process.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


@pytest.fixture(autouse=True)
def on_cpu() -> Iterator[None]:
    """A test without `device` needs no GPU, and uses none."""
    import jax

    with jax.default_device(jax.devices("cpu")[0]):
        yield


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.L1)])
def device(request: pytest.FixtureRequest, on_cpu: None) -> Iterator[None]:
    """The default device of a test."""
    import jax

    try:
        found = jax.devices(request.param)[0]
    except RuntimeError:
        pytest.skip("no GPU that jax can use")
    with jax.default_device(found):
        yield
