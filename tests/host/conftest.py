"""The core with a device library that records its calls."""

from __future__ import annotations

from pathlib import Path

import pytest

import native
from capi import Api
from fake import Fake


@pytest.fixture(scope="session")
def fake_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fake")
    native.build_core(folder)
    native.build_fake_plugin(folder, "host")
    native.build_fake_plugin(folder, "cuda")
    return folder


@pytest.fixture(scope="session")
def api(fake_folder: Path) -> Api:
    """The C API on top of the recording device libraries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTATTN_HOST_ISA", "generic")
        patch.setenv("NVTE_LOG_FUSED_ATTN_CONFIG", "1")
        library = Api(fake_folder / "libportattn.so")
        library.lib.nvte_describe_devices(None, 0, None)  # loads all of them while the environment is set
        return library


@pytest.fixture
def fake(fake_folder: Path, api: Api) -> Fake:
    plugin = Fake(fake_folder / "libportattn_host_generic.so")
    plugin.calls()
    plugin.fail("")
    return plugin


@pytest.fixture
def fake_cuda(fake_folder: Path, api: Api) -> Fake:
    plugin = Fake(fake_folder / "libportattn_cuda.so")
    plugin.calls()
    plugin.fail("")
    return plugin
