"""The static settings of a call as the operators' `attrs` list: checked and built once, found again by hash."""

from __future__ import annotations

import functools

from portattn.common.enums import BACKENDS, BIAS_TYPES, MASK_TYPES, QKV_FORMATS, SOFTMAX_TYPES, ConfigAttr, enum_value


def build_attrs(
    qkv_format: str,
    attn_mask_type: str,
    window_size: tuple[int, int],
    bottom_right_diagonal: bool | None,
    chunk_size: int,
    bias_type: str,
    bias_grad: bool,
    softmax_type: str,
    training: bool,
    deterministic: bool,
    backend: str | None,
    strict: bool,
    max_segment_seqlen_q: int,
    max_segment_seqlen_kv: int,
) -> tuple[int, ...]:
    """Attribute, value, attribute, value, ...: only what differs from the C API's defaults, except formats and mask."""
    qkv_format_value = enum_value(qkv_format, QKV_FORMATS, "qkv_format")
    attrs = [ConfigAttr.Q_FORMAT.value, qkv_format_value, ConfigAttr.KV_FORMAT.value, qkv_format_value]
    attrs += [ConfigAttr.MASK_TYPE.value, enum_value(attn_mask_type, MASK_TYPES, "attn_mask_type")]
    has_own_diagonal = "causal" in attn_mask_type
    optional = (
        (ConfigAttr.WINDOW_LEFT.value, window_size[0], -1),
        (ConfigAttr.WINDOW_RIGHT.value, window_size[1], -1),
        (ConfigAttr.BOTTOM_RIGHT_DIAGONAL.value, int(bool(bottom_right_diagonal) and not has_own_diagonal), 0),
        (ConfigAttr.CHUNK_SIZE.value, chunk_size, 0),
        (ConfigAttr.BIAS_TYPE.value, enum_value(bias_type, BIAS_TYPES, "bias_type"), 0),
        (ConfigAttr.BIAS_GRAD.value, int(bias_grad), 0),
        (ConfigAttr.SOFTMAX_TYPE.value, enum_value(softmax_type, SOFTMAX_TYPES, "softmax_type"), 0),
        (ConfigAttr.IS_TRAINING.value, int(training), 0),
        (ConfigAttr.DETERMINISTIC.value, int(deterministic), 0),
        (ConfigAttr.BACKEND.value, enum_value(backend, BACKENDS, "backend"), -1),
        (ConfigAttr.STRICT.value, int(strict), 0),
        (ConfigAttr.MAX_SEGMENT_SEQLEN_Q.value, max_segment_seqlen_q, 0),
        (ConfigAttr.MAX_SEGMENT_SEQLEN_KV.value, max_segment_seqlen_kv, 0),
    )
    for attr, value, default in optional:
        if value != default:
            attrs += [attr, value]
    return tuple(attrs)


cached_attrs = functools.lru_cache(maxsize=4096)(build_attrs)
