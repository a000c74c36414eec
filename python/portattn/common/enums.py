"""The C API's enums (csrc/include/portattn/types.h and config.h) and the strings that stand for them in Python."""

from __future__ import annotations

from enum import IntEnum


class ConfigAttr(IntEnum):
    """NVTEFusedAttnAttr."""

    DTYPE = 0
    Q_FORMAT = 1
    KV_FORMAT = 2
    BATCH_SIZE = 3
    NUM_HEADS_Q = 4
    NUM_HEADS_KV = 5
    HEAD_DIM_QK = 6
    HEAD_DIM_V = 7
    MAX_SEQLEN_Q = 8
    MAX_SEQLEN_KV = 9
    TOTAL_TOKENS_Q = 10
    TOTAL_TOKENS_KV = 11
    MASK_TYPE = 16
    WINDOW_LEFT = 17
    WINDOW_RIGHT = 18
    BOTTOM_RIGHT_DIAGONAL = 19
    CHUNK_SIZE = 20
    ATTN_SCALE = 32
    SOFTCAP = 33
    DROPOUT = 34
    BIAS_TYPE = 35
    BIAS_BATCH = 36
    BIAS_HEADS = 37
    BIAS_SEQLEN_Q = 38
    BIAS_SEQLEN_KV = 39
    BIAS_GRAD = 40
    SOFTMAX_TYPE = 41
    IS_TRAINING = 48
    DETERMINISTIC = 49
    BACKEND = 50
    STRICT = 51
    DEVICE_TYPE = 52
    MAX_SEGMENT_SEQLEN_Q = 54
    MAX_SEGMENT_SEQLEN_KV = 55


DTYPES = {"float32": 4, "float16": 5, "bfloat16": 6, "float64": 64}
QKV_FORMATS = {"sbhd": 0, "bshd": 1, "thd": 2, "bhsd": 7}
MASK_TYPES = {
    "no_mask": 0,
    "padding": 1,
    "causal": 2,
    "padding_causal": 3,
    "causal_bottom_right": 4,
    "padding_causal_bottom_right": 5,
    "arbitrary": 64,
}
BIAS_TYPES = {"no_bias": 0, "pre_scale_bias": 1, "post_scale_bias": 2, "alibi": 3}
SOFTMAX_TYPES = {"vanilla": 0, "off-by-one": 1, "learnable": 2}
BACKENDS = {None: -1, "fused_varlen": 64, "small_seq": 65, "unfused": 66}


def enum_value(name: str | None, values: dict, argument: str) -> int:
    """The number behind `name`, or a ValueError that lists what `argument` may be."""
    try:
        return values[name]
    except (KeyError, TypeError):
        allowed = ", ".join(repr(value) for value in values)
        raise ValueError(f"{argument}={name!r} is not known; it may be one of {allowed}") from None
