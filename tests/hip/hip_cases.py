"""Cases for the simulated GPU: small, since it is thousands of times slower than a real one, and between them every
mask, format, memory layout, dtype, head dim and option of both backends.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from portattn.testing.random_config import Case, Side

HEAD_DIMS = ((32, 32), (64, 64), (96, 96), (128, 128), (192, 128), (192, 192), (256, 256))
DTYPES = ("bfloat16", "float16", "float32")
FULL_MASKS = ("no_mask", "causal", "causal_bottom_right")
PADDING_MASKS = ("padding", "padding_causal", "padding_causal_bottom_right")

PACKED = Side("thd", (70, 1, 33), gaps=(3, 0, 5), lead=4, tail=9)
SHORT = Side("thd", (30, 0, 17))
BASE = Case(q=PACKED, kv=PACKED, heads_q=2, heads_kv=1, d_qk=64, d_v=64, dtype="bfloat16", mask="padding_causal")


def _side(fmt: str, lens: tuple[int, ...], padding: bool) -> Side:
    return Side(fmt, lens, extra=6 if padding and fmt != "thd" else 0)


def _masks_and_formats() -> dict[str, Case]:
    """Every mask in every format, keys longer than queries and the other way round."""
    cases = {}
    formats = ("bshd", "sbhd", "bhsd", "thd")
    for number, (mask, fmt) in enumerate(itertools.product(FULL_MASKS + PADDING_MASKS, formats)):
        padding = mask in PADDING_MASKS
        if fmt == "thd" and not padding:
            continue
        lens = ((20, 75), (90, 41)) if padding else ((39, 39), (70, 70))
        if number % 2:
            lens = lens[::-1]
        q, kv = (_side(fmt, sides, padding) for sides in lens)
        cases[f"{mask}-{fmt}"] = replace(BASE, seed=number, q=q, kv=kv, mask=mask)
    return cases


OPTIONS = {
    "window": {"window": (11, 0)},
    "window-both-sides": {"mask": "padding", "window": (5, 9)},
    "window-from-the-last-key": {"mask": "padding", "window": (5, 9), "bottom_right": 1},
    "chunk": {"chunk_size": 16},
    "chunk-of-5": {"chunk_size": 5, "mask": "padding_causal_bottom_right"},
    "softcap": {"softcap": 3.0},
    "scale": {"scale": -0.2},
    "pre-scale-bias": {"bias": "pre_scale_bias", "bias_shape": "bhss"},
    "post-scale-bias": {"bias": "post_scale_bias", "bias_shape": "1hss", "bias_extra": 8},
    "bias-of-one-row": {"bias": "post_scale_bias", "bias_shape": "111s"},
    "alibi": {"bias": "alibi", "mask": "padding_causal_bottom_right"},
    "alibi-of-each-batch": {"bias": "alibi", "alibi_batch": True, "mask": "padding"},
    "off-by-one": {"softmax": "off-by-one"},
    "sink": {"softmax": "learnable"},
    "dropout": {"dropout": 0.3},
    "deterministic": {"deterministic": True},
    "grouped-heads": {"heads_q": 6, "heads_kv": 2},
    "equal-heads": {"heads_q": 3, "heads_kv": 3},
    "gapped": {"layout": "gapped"},
    "fused-qkv": {"layout": "fused"},
    "interleaved-qkv": {"layout": "interleaved", "heads_q": 2, "heads_kv": 2},
    "odd-strides": {"odd_strides": True, "heads_q": 1},
    "packed-and-padded": {"kv": Side("bshd", (90, 17, 4), extra=6), "mask": "padding_causal_bottom_right"},
    "empty": {"q": Side("thd", (0, 40, 33, 0)), "kv": Side("thd", (50, 0, 20, 0)), "mask": "padding"},
    "no-keys": {"q": SHORT, "kv": Side("thd", (0, 0, 0), tail=10), "mask": "padding", "softmax": "learnable"},
    "all-empty": {"q": Side("thd", (0, 0), tail=40), "kv": Side("thd", (0, 0), tail=40)},
    "one-token": {"q": Side(lens=(1,)), "kv": Side(lens=(1,)), "mask": "no_mask"},
    "one-row-of-queries": {"q": Side(lens=(1,)), "kv": Side(lens=(70,)), "mask": "no_mask"},
    "one-row-of-keys": {"q": Side(lens=(40,)), "kv": Side(lens=(1,)), "mask": "no_mask"},
    "one-query": {"q": Side("thd", (1, 1)), "kv": Side("thd", (150, 3)), "mask": "padding_causal_bottom_right"},
    "decreasing-offsets": {"q": replace(SHORT, cu_seqlens=(0, 40, 10, 47)), "kv": SHORT},
    "wild-offsets": {"q": replace(SHORT, cu_seqlens=(-(2**31), 2**31 - 1, -5, 10**6)), "kv": SHORT, "mask": "padding"},
    "wild-keys": {"q": SHORT, "kv": replace(SHORT, cu_seqlens=(9, 2**31 - 1, -(2**31), 40)), "mask": "padding"},
    "overlapping-starts": {"q": replace(SHORT, cu_seqlens_padded=(0, 5, 9, 47)), "kv": SHORT},
    "everything": {
        "heads_q": 4, "heads_kv": 2, "window": (40, 0), "softcap": 20.0, "bias": "post_scale_bias",
        "bias_shape": "b1ss", "softmax": "learnable", "dropout": 0.2, "deterministic": True, "layout": "gapped",
    },
}  # fmt: skip


def fused_cases() -> dict[str, Case]:
    cases = _masks_and_formats()
    for number, (dtype, (d_qk, d_v)) in enumerate(itertools.product(DTYPES, HEAD_DIMS)):
        if (dtype, d_qk) == ("float32", 256):  # no fused kernel: its tiles would not fit
            continue
        cases[f"{dtype}-{d_qk}-{d_v}"] = replace(BASE, seed=100 + number, dtype=dtype, d_qk=d_qk, d_v=d_v)
    for number, (name, options) in enumerate(OPTIONS.items()):
        cases[name] = replace(BASE, seed=200 + number, **options)
    for dtype, d_qk, d_v in (("float16", 24, 56), ("bfloat16", 80, 80), ("float32", 136, 176), ("bfloat16", 8, 8)):
        cases[f"between-{d_qk}-{d_v}"] = replace(BASE, seed=d_qk, dtype=dtype, d_qk=d_qk, d_v=d_v, layout="gapped")
    return cases


def unfused_cases() -> dict[str, Case]:
    small = replace(BASE, q=SHORT, kv=SHORT, d_qk=20, d_v=12)
    cases = {
        "arbitrary-mask": Case(q=Side(lens=(20, 20)), kv=Side(lens=(40, 40)), mask="arbitrary", dtype="float16"),
        "float64": replace(small, dtype="float64", bias="pre_scale_bias", dropout=0.1),
        "large-head-dim": replace(small, d_qk=300, d_v=10),
        "odd-head-dim": replace(small, d_qk=5, d_v=3, dtype="float32"),
        "head-dim-1": replace(small, d_qk=1, d_v=1, dtype="float32"),
    }
    for dtype in DTYPES:
        cases[dtype] = replace(small, dtype=dtype, d_qk=64, d_v=64)
    cases["float32-256"] = replace(small, dtype="float32", d_qk=256, d_v=256)
    names = (
        "window-both-sides", "chunk", "softcap", "post-scale-bias", "alibi", "sink", "dropout", "deterministic",
        "grouped-heads", "fused-qkv", "empty", "wild-offsets", "overlapping-starts", "everything",
    )  # fmt: skip
    for name in names:
        cases[name] = replace(small, **OPTIONS[name])
    return {name: replace(case, seed=300 + number) for number, (name, case) in enumerate(cases.items())}
