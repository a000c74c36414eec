"""Debug mode (PORTATTN_DEBUG=1): tells of segments longer than max_segment_seqlen_q or max_segment_seqlen_kv promised.

Their results are right, but slow. Lengths are on the device, so telling waits for it: nothing of this runs by default.
"""

from __future__ import annotations

import logging

import torch

_log = logging.getLogger("portattn")


def report_broken_promises(
    cu_seqlens_q: torch.Tensor | None,
    cu_seqlens_kv: torch.Tensor | None,
    promised_q: int | None,
    promised_kv: int | None,
) -> None:
    """Logs a warning for each side with a segment that is too long. Waits for the device, so not while it captures."""
    sides = (("q", cu_seqlens_q, promised_q), ("kv", cu_seqlens_kv, promised_kv))
    for side, cu_seqlens, promised in sides:
        if cu_seqlens is None or not promised or cu_seqlens.numel() < 2:
            continue
        if cu_seqlens.is_cuda and torch.cuda.is_current_stream_capturing():
            continue
        lengths = cu_seqlens.diff()
        longest = int(lengths.argmax())
        if int(lengths[longest]) > promised:
            _log.warning(
                "segment %d has cu_seqlens_%s length %d, but max_segment_seqlen_%s promises up to %d: it is computed "
                "right, and slowly; raise the promise",
                longest, side, int(lengths[longest]), side, promised,
            )  # fmt: skip
