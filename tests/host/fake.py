"""The recording device library, cpp/fake_plugin.cpp, as tests see it."""

from __future__ import annotations

import ctypes
from pathlib import Path


class Fake:
    """The recording device library: its calls as (name, {field: text})."""

    def __init__(self, path: Path):
        self.lib = ctypes.CDLL(str(path))
        self.lib.fake_record.restype = ctypes.c_char_p
        self.lib.fake_fail.argtypes = [ctypes.c_char_p]

    def calls(self) -> list[tuple[str, dict[str, str]]]:
        lines = [line.split() for line in self.lib.fake_record().decode().splitlines()]
        self.lib.fake_clear()
        return [(words[0], dict(word.split("=", 1) for word in words[1:])) for words in lines]

    def fail(self, call: str) -> None:
        self.lib.fake_fail(call.encode())
