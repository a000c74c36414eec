"""Random attention cases from a seed. A Case is all that a problem is, but for the numbers in its tensors, which its
seed gives; its one-line repr is Python that `Case.parse` reads back, and `Case.command` is the pytest line that
repeats it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, fields

from portattn.testing.reference import Rules, Span, spans_of

BIASES = ("pre_scale_bias", "post_scale_bias")
FULL_MASKS = ("no_mask", "causal", "causal_bottom_right")
PADDING_MASKS = ("padding", "padding_causal", "padding_causal_bottom_right")
MASKS = (*FULL_MASKS, *PADDING_MASKS, *PADDING_MASKS)  # padding, the harder half, twice as often
DTYPES = ("float32", "float16", "bfloat16")
LAYOUTS = ("plain", "gapped", "fused", "interleaved")


def _short_repr(self) -> str:
    """The constructor call without what stands at its default."""
    default = type(self)()
    changed = [f.name for f in fields(self) if getattr(self, f.name) != getattr(default, f.name)]
    return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in changed)})"


@dataclass(frozen=True)
class Side:
    """The sequences of one side, queries or keys, and how their buffer is laid out."""

    format: str = "bshd"  # bshd sbhd bhsd thd
    lens: tuple[int, ...] = (16, 16)  # valid tokens of each sequence
    extra: int = 0  # bshd: buffer rows beyond the longest sequence
    gaps: tuple[int, ...] = ()  # thd: padding rows after each sequence, passed as cu_seqlens_padded; () = not passed
    lead: int = 0  # thd: rows before the first sequence
    tail: int = 0  # thd: rows after the last slot
    cu_extra: int = 0  # entries of cu_seqlens beyond b + 1
    cu_seqlens: tuple[int, ...] = ()  # offsets to pass as they are, for hostile ones; () = made from lens
    cu_seqlens_padded: tuple[int, ...] = ()  # likewise

    __repr__ = _short_repr

    @property
    def batch(self) -> int:
        return len(self.lens)

    @property
    def is_thd(self) -> bool:
        return self.format == "thd"

    @property
    def slots(self) -> list[int]:
        return [length + gap for length, gap in zip(self.lens, self.gaps or [0] * self.batch, strict=True)]

    @property
    def seqlen(self) -> int:
        """s of a bshd, sbhd or bhsd buffer; the longest sequence of a thd one."""
        return max(self.lens) + (0 if self.is_thd else self.extra)

    @property
    def tokens(self) -> int:
        """Rows of the buffer over all sequences."""
        return self.lead + sum(self.slots) + self.tail if self.is_thd else self.batch * self.seqlen

    def offsets(self) -> list[int]:
        """cu_seqlens as passed."""
        if self.cu_seqlens:
            return list(self.cu_seqlens)
        start = self.lead if self.is_thd and not self.gaps else 0
        offsets = [start]
        for length in self.lens:
            offsets.append(offsets[-1] + length)
        return offsets + [offsets[-1]] * self.cu_extra

    def padded_offsets(self) -> list[int] | None:
        """cu_seqlens_padded as passed."""
        if self.cu_seqlens_padded:
            return list(self.cu_seqlens_padded)
        if not self.gaps:
            return None
        offsets = [self.lead]
        for slot in self.slots:
            offsets.append(offsets[-1] + slot)
        return offsets + [offsets[-1]] * self.cu_extra

    def spans(self) -> list[Span]:
        """Rows of each sequence in the buffer seen as tokens [t, ...]."""
        offsets = self.offsets()
        if self.is_thd:
            return spans_of(offsets, self.padded_offsets() or offsets, self.batch, self.tokens)
        lens = [min(max(offsets[i + 1] - offsets[i], 0), self.seqlen) for i in range(self.batch)]
        return [Span(i * self.seqlen, length) for i, length in enumerate(lens)]


@dataclass(frozen=True)
class Case:
    seed: int = 0  # of the numbers in the tensors
    dtype: str = "float32"
    q: Side = field(default_factory=Side)
    kv: Side = field(default_factory=Side)
    heads_q: int = 2
    heads_kv: int = 2
    d_qk: int = 32
    d_v: int = 32
    layout: str = "plain"  # plain, gapped strides, q/k/v fused in one buffer, interleaved [h, 3, d]
    odd_strides: bool = False  # dimensions of size 1 get stride 7
    mask: str = "no_mask"
    bottom_right: int = -1  # alignment of masks without a diagonal of their own; -1 = not passed
    window: tuple[int, int] = (-1, -1)
    chunk_size: int = 0
    scale: float = 0.0  # 0 = 1 / sqrt(d_qk)
    softcap: float = 0.0
    bias: str = "no_bias"
    bias_shape: str = "1hss"  # b or 1, h or 1, s or 1, s
    bias_extra: int = 0  # rows and columns beyond the longest sequences
    alibi_batch: bool = False  # slopes [b, h] instead of [h]
    softmax: str = "vanilla"
    dropout: float = 0.0
    deterministic: bool = False
    promised: tuple[int, int] = (0, 0)  # max_segment_seqlen_q and _kv; 0 = not passed

    __repr__ = _short_repr

    @staticmethod
    def parse(text: str) -> Case:
        """What repr printed; the text comes from the person who runs the test."""
        return eval(text, {"__builtins__": {}, "Case": Case, "Side": Side})

    def command(self) -> str:
        return f'pytest tests/kernels/test_random.py --case="{self!r}"'

    @property
    def batch(self) -> int:
        return self.q.batch

    @property
    def attn_scale(self) -> float:
        return self.scale or 1 / math.sqrt(self.d_qk)

    @property
    def has_padding_mask(self) -> bool:
        return self.mask.startswith("padding")

    @property
    def needs_unfused(self) -> bool:
        """Whether fused_varlen must refuse."""
        dims = (self.d_qk, self.d_v)
        return self.dtype == "float64" or self.mask == "arbitrary" or any(d % 8 or d > 256 for d in dims)

    @property
    def bias_dims(self) -> tuple[int, int, int, int]:
        b, h, s, _ = self.bias_shape
        rows = self.q.seqlen + self.bias_extra
        return (
            self.batch if b == "b" else 1,
            self.heads_q if h == "h" else 1,
            rows if s == "s" else 1,
            self.kv.seqlen + self.bias_extra,
        )

    def rules(self) -> Rules:
        return Rules(
            scale=self.attn_scale,
            causal="causal" in self.mask,
            bottom_right="bottom_right" in self.mask or ("causal" not in self.mask and self.bottom_right == 1),
            window=self.window,
            chunk_size=self.chunk_size,
            softcap=self.softcap,
            bias_type=self.bias,
            dropout=self.dropout,
            seed=0x0123456789ABCDEF ^ self.seed,
            offset=0x100000005 + self.seed,
        )


def _random_side(rng: random.Random, fmt: str, lens: tuple[int, ...], padding: bool) -> Side:
    if fmt != "thd":
        return Side(fmt, lens, extra=rng.choice((0, 0, 3, 20)) if padding else 0, cu_extra=rng.choice((0, 0, 2)))
    gaps = tuple(rng.choice((0, 1, 7, 40)) for _ in lens) if rng.random() < 0.5 else ()
    lead, tail = rng.choice((0, 0, 5)), rng.choice((0, 0, 9, 70))
    return Side(fmt, lens, gaps=gaps, lead=lead, tail=tail, cu_extra=rng.choice((0, 0, 3)))


def _random_lens(rng: random.Random, batch: int, longest: int) -> tuple[int, ...]:
    lens = [rng.randint(1, longest) for _ in range(batch)]
    for i in range(batch):
        if rng.random() < 0.15:
            lens[i] = 0
        elif rng.random() < 0.15:
            lens[i] = rng.choice((1, longest, min(64, longest)))
    return tuple(lens)


def _random_sides(rng: random.Random, mask: str) -> tuple[Side, Side]:
    padding = mask.startswith("padding")
    batch, longest_q, longest_kv = rng.randint(1, 4), rng.choice((8, 40, 100, 200)), rng.choice((8, 40, 100, 200))
    format_q = rng.choice(("bshd", "sbhd", "bhsd", "thd", "thd") if padding else ("bshd", "sbhd", "bhsd"))
    format_kv = format_q if rng.random() < 0.7 else rng.choice(("bshd", "sbhd", "bhsd") + (("thd",) if padding else ()))
    if padding:
        lens_q, lens_kv = _random_lens(rng, batch, longest_q), _random_lens(rng, batch, longest_kv)
    else:
        lens_q, lens_kv = (rng.randint(1, longest_q),) * batch, (rng.randint(1, longest_kv),) * batch
    side_q = _random_side(rng, format_q, lens_q, padding)
    if format_q == format_kv and rng.random() < 0.5:
        return side_q, side_q
    return side_q, _random_side(rng, format_kv, lens_kv, padding)


def _random_layout(rng: random.Random, q: Side, kv: Side, same_shape: bool) -> str:
    if q != kv or q.format == "bhsd":
        return rng.choice(("plain", "gapped"))
    return rng.choice(LAYOUTS if same_shape else LAYOUTS[:3])


def _random_dims(rng: random.Random, unfused: bool) -> tuple[int, int]:
    if unfused and rng.random() < 0.5:
        return rng.choice(((1, 1), (5, 5), (17, 3), (20, 44), (72, 50), (264, 264), (300, 10)))
    return rng.choice(
        ((8, 8), (32, 32), (40, 40), (64, 64), (64, 64), (80, 80), (96, 96), (128, 128), (128, 64), (24, 56), (64, 128),
         (192, 128), (256, 256), (136, 200))
    )  # fmt: skip


def random_case(seed: int, *, unfused: bool = False, dtypes: tuple[str, ...] = DTYPES) -> Case:
    """The case of a seed; `unfused` also draws what only the exact fallback takes."""
    rng = random.Random(seed)
    mask = rng.choice([*MASKS, "arbitrary"] if unfused else MASKS)
    q, kv = _random_sides(rng, mask)
    heads_kv = rng.choice((1, 2, 3))
    heads_q = heads_kv * rng.choice((1, 1, 2, 4))
    d_qk, d_v = _random_dims(rng, unfused)
    sometimes = lambda value, default, chance=0.25: value if rng.random() < chance else default  # noqa: E731
    bias_shape, bias_extra = rng.choice(("1hss", "11ss", "b1ss", "bhss", "111s", "bh1s")), rng.choice((0, 0, 8))
    bias = sometimes(rng.choice((*BIASES, "alibi")), "no_bias", 0.4)
    causal = "causal" in mask
    window = (rng.choice((0, 3, 30, 100)), 0 if causal else rng.choice((0, 2, 40)))
    return Case(
        seed=seed,
        dtype=rng.choice(dtypes),
        q=q,
        kv=kv,
        heads_q=heads_q,
        heads_kv=heads_kv,
        d_qk=d_qk,
        d_v=d_v,
        layout=_random_layout(rng, q, kv, heads_q == heads_kv and d_qk == d_v),
        odd_strides=sometimes(True, False),
        mask=mask,
        bottom_right=-1 if causal else sometimes(rng.choice((0, 1)), -1),
        window=sometimes(window, (-1, 0) if causal and rng.random() < 0.5 else (-1, -1)),
        chunk_size=sometimes(rng.choice((1, 5, 16, 64)), 0, 0.15),
        scale=sometimes(rng.choice((-1.0, 0.1, 0.5, 1.5)) / d_qk**0.5, 0.0),
        softcap=sometimes(rng.choice((0.5, 3.0, 30.0)), 0.0),
        bias=bias,
        bias_shape=bias_shape if bias in BIASES else "1hss",
        bias_extra=bias_extra if bias in BIASES else 0,
        alibi_batch=bias == "alibi" and rng.random() < 0.5,
        softmax=rng.choice(("vanilla", "vanilla", "off-by-one", "learnable")),
        dropout=sometimes(rng.choice((0.1, 0.5)), 0.0),
        deterministic=rng.random() < 0.3,
    )
