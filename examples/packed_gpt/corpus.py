"""Documents of very different lengths, from text that every Python installation carries.

A document is one top-level block of a standard library module (a function, a class, a group of constants ...) or one
topic of the language reference that `help()` shows. No download, no tokenizer: a token is a byte.
"""

from __future__ import annotations

import random
import re
import sysconfig
from pathlib import Path

START = 256  # the token before a document's first byte
VOCAB_SIZE = 257

_SHORTEST = 32  # bytes; shorter blocks are "import os" and the like
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests"} | {"encodings", "pydoc_data"}  # tables, not text


def load_documents(max_len: int, seed: int) -> list[bytes]:
    """All documents in an order that depends on the seed only, each cut to its first max_len bytes."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in root.rglob("*.py") if not _SKIPPED_FOLDERS & set(path.relative_to(root).parts))
    texts = [block for path in files for block in _top_level_blocks(path)] + _reference_topics()
    documents = [text.encode()[:max_len] for text in texts if len(text) >= _SHORTEST]
    if not documents:
        raise RuntimeError(f"found no Python sources under {root}; run with a Python that has its standard library")
    random.Random(seed).shuffle(documents)
    return documents


def _top_level_blocks(path: Path) -> list[str]:
    """Splits a source file at blank lines that are followed by text in the first column."""
    return re.split(r"\n\n+(?=\S)", path.read_text(encoding="utf-8", errors="replace"))


def _reference_topics() -> list[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions ship Python without its reference texts
        return []
    return list(topics.values())
