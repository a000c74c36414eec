"""Benchmark cases: read from cases/*.toml, expanded to one Case per shape and mask, with their useful FLOPs.

Useful work only: a (query, key) pair counts when the mask lets the query see the key; padding counts nothing.
forward = 2 * pairs * heads * (d + d_v) (two matrix products), backward = 2 * pairs * heads * (3 d + 2 d_v) (five).
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

CASES_DIR = Path(__file__).resolve().parent.parent / "cases"
DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True)
class Target:
    """What a group aims at: `ratio` times the speed of `peer`, which may be "fastest"."""

    peer: str
    ratio: float


@dataclass(frozen=True)
class Case:
    """One attention problem: the lengths of its sequences, its heads and its mask."""

    model: str
    shape: str
    seqlens: tuple[int, ...]
    packed: bool
    num_heads_q: int
    num_heads_kv: int
    head_dim: int
    mask: str
    head_dim_v: int = 0  # 0: the same as head_dim

    @property
    def value_dim(self) -> int:
        return self.head_dim_v or self.head_dim

    @property
    def name(self) -> str:
        return f"{self.model}/{self.shape}/{self.mask}"

    @property
    def seed(self) -> int:
        return zlib.crc32(self.name.encode())

    @property
    def causal(self) -> bool:
        return self.mask == "causal"

    @property
    def total_tokens(self) -> int:
        return sum(self.seqlens)

    @property
    def max_seqlen(self) -> int:
        return max(self.seqlens)

    @property
    def offsets(self) -> list[int]:
        """Start of every sequence in the token dimension, and the end of the last."""
        starts = [0]
        for length in self.seqlens:
            starts.append(starts[-1] + length)
        return starts

    @property
    def visible_pairs(self) -> int:
        return sum(s * (s + 1) // 2 if self.causal else s * s for s in self.seqlens)

    def flops(self, direction: str) -> float:
        d, d_v = self.head_dim, self.value_dim
        columns = d + d_v if direction == "forward" else 3 * d + 2 * d_v
        return 2.0 * self.visible_pairs * self.num_heads_q * columns


@dataclass(frozen=True)
class Group:
    """The cases of one file: same device, routine, dtype, peers and target."""

    name: str
    title: str
    device: str
    routine: str
    dtype: str
    peers: tuple[str, ...]
    target: Target | None = None
    backend: str | None = None
    deterministic: bool = False  # of portattn
    directions: tuple[str, ...] = DIRECTIONS
    tables: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def attention_cases(self, smallest_only: bool = False) -> list[Case]:
        return [case for table in self.tables for case in expand_attention_case(table, smallest_only)]

    def case_names(self, smallest_only: bool = False) -> list[str]:
        if self.routine == "attention":
            return [case.name for case in self.attention_cases(smallest_only)]
        return [table["model"] for table in self.tables]


def load_groups(directory: Path = CASES_DIR) -> list[Group]:
    return [load_group(path) for path in sorted(directory.glob("*.toml"))]


def load_group(path: Path) -> Group:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    settings = dict(document["group"])
    target = settings.pop("target", None)
    for name in ("peers", "directions"):
        settings[name] = tuple(settings.get(name, getattr(Group, name, ())))
    return Group(**settings, target=Target(**target) if target else None, tables=tuple(document["case"]))


def expand_attention_case(table: dict[str, Any], smallest_only: bool = False) -> Iterator[Case]:
    """One Case per shape and mask of a [[case]] table; the smallest shape alone for a quick run."""
    shapes = list(_shapes(table))
    dims = [table[key] for key in ("head_dim", "head_dim_v") if key in table]
    for shape, seqlens, packed in shapes[:1] if smallest_only else shapes:
        for mask in table["masks"]:
            yield Case(
                model=table["model"],
                shape=f"hd{'/'.join(map(str, dims))} {shape}",
                seqlens=seqlens,
                packed=packed,
                num_heads_q=table["num_heads_q"],
                num_heads_kv=table["num_heads_kv"],
                head_dim=table["head_dim"],
                mask=mask,
                head_dim_v=table.get("head_dim_v", 0),
            )


def _shapes(table: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    if "seqlen" in table:
        for seqlen in table["seqlen"]:
            yield f"s{seqlen}", (seqlen,) * (table["total_tokens"] // seqlen), False
    elif "documents" in table:
        documents = table["documents"]
        for longest in documents["longest"]:
            lengths = document_lengths(table["total_tokens"], documents["mu"], documents["sigma"], longest)
            yield f"{len(lengths)} docs <= {longest}", lengths, True
    else:
        lengths = tuple(table["lengths"])
        yield f"{len(lengths)} texts <= {max(lengths)}", lengths, True


def document_lengths(total_tokens: int, mu: float, sigma: float, longest: int) -> tuple[int, ...]:
    """Log-normal lengths in [1, longest], drawn until they fill total_tokens; the same ones on every machine."""
    generator = random.Random(longest)
    lengths: list[int] = []
    left = total_tokens
    while left > 0:
        length = min(max(1, round(generator.lognormvariate(mu, sigma))), longest, left)
        lengths.append(length)
        left -= length
    return tuple(lengths)
