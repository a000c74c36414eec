"""The configs of the golden enumeration and the features of the support matrix."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from backend_table import ENUMS, ROWS, Case

HEAD_DIMS = [
    *((8, 8), (32, 32), (64, 64), (72, 40), (96, 96), (100, 100), (128, 128), (160, 128), (192, 128), (192, 192)),
    *((256, 256), (264, 264), (64, 512), (512, 512), (576, 512), (1024, 1024), (1032, 64)),
]

# section -> (label, what it changes in the baseline)
FEATURES: dict[str, list[tuple[str, Case]]] = {
    "dtype": [(name, {"dtype": name}) for name in ENUMS["dtype"]],
    "layout of q, k, v": [(name, {"q_format": name, "kv_format": name}) for name in ("bshd", "sbhd", "bhsd", "thd")]
    + [("q thd, k and v bshd (KV cache)", {"q_format": "thd"})],
    "head dims (qk, v)": [(f"{qk}, {v}", {"head_dim_qk": qk, "head_dim_v": v}) for qk, v in HEAD_DIMS],
    "mask": [(name, {"mask_type": name}) for name in ENUMS["mask_type"]]
    + [
        ("arbitrary, thd", {"mask_type": "arbitrary", "q_format": "thd", "kv_format": "thd"}),
        ("sliding window", {"window_left": 128, "window_right": 0}),
        ("chunks", {"mask_type": "causal", "chunk_size": 256}),
    ],
    "scores": [(name, {"bias_type": name}) for name in ("pre_scale_bias", "post_scale_bias", "alibi")]
    + [("gradient of the bias", {"bias_type": "post_scale_bias", "bias_grad": 1}), ("softcap", {"softcap": 30.0})],
    "softmax": [(name, {"softmax_type": name}) for name in ENUMS["softmax_type"]],
    "heads": [
        ("GQA, MQA", {"num_heads_kv": 1}),
        ("more than 65535 query heads", {"num_heads_q": 65536, "num_heads_kv": 1, "batch_size": 1}),
    ],
    "training": [("dropout", {"dropout": 0.1}), ("deterministic backward", {"deterministic": 1})],
}


def golden_cases() -> Iterator[Case]:
    """Every feature alone, every pair of the features that interact, every row asked for by name, the hints."""
    yield {}
    for features in FEATURES.values():
        yield from (changes for _, changes in features)
    pairs = itertools.product(ENUMS["dtype"], ("bshd", "thd"), ENUMS["mask_type"], ENUMS["bias_type"])
    for dtype, layout, mask, bias in pairs:
        yield {"dtype": dtype, "q_format": layout, "kv_format": layout, "mask_type": mask, "bias_type": bias}
    wide = {"head_dim_qk": 512, "head_dim_v": 512}  # which have one kernel a pass, and nothing behind it
    for features in FEATURES.values():
        yield from (wide | changes for _, changes in features if "head_dim_qk" not in changes)
    yield wide | {"attn_scale": -1.0}
    yield wide | {"max_seqlen_q": 2**20, "max_seqlen_kv": 2**20, "batch_size": 2**13}
    for backend in ROWS:
        yield {"backend": backend}
        yield {"backend": backend, "dtype": "fp64", "head_dim_qk": 1032}
    yield {"max_segment_seqlen_q": 1}
    yield {"max_segment_seqlen_q": 1, "max_segment_seqlen_kv": 16}
    yield {"max_segment_seqlen_q": 1024, "max_segment_seqlen_kv": 1024, "strict": 1}
    yield {"strict": 1, "dtype": "fp64"}
    yield {"strict": 1, "max_segment_seqlen_kv": 16}
    yield {"batch_size": 2**30, "max_seqlen_q": 1, "max_seqlen_kv": 1}
