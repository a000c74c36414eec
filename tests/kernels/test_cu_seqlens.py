"""nvte_make_cu_seqlens against a loop over segments: lengths with starts, segment ids, unused segments, wrong input."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int64, c_size_t, c_void_p

import pytest
import torch

from portattn.testing.capi import NVTEError, Tensor, check, library

FIELDS = ("lengths", "starts", "segment_ids", "cu_seqlens", "cu_seqlens_padded")


class Segments(ctypes.Structure):
    """NVTESegments."""

    _fields_ = [("struct_size", c_size_t)] + [(field, POINTER(Tensor)) for field in FIELDS[:3]]
    _fields_ += [("row_tokens", c_int64)] + [(field, POINTER(Tensor)) for field in FIELDS[3:]]

    @classmethod
    def of(cls, row_tokens: int, **tensors: torch.Tensor) -> Segments:
        pointers = {name: ctypes.pointer(Tensor.of(tensor)) for name, tensor in tensors.items()}
        return cls(struct_size=ctypes.sizeof(cls), row_tokens=row_tokens, **pointers)


def make_cu_seqlens(q: Segments, kv: Segments | None = None) -> None:
    function = library().nvte_make_cu_seqlens
    function.argtypes = [c_void_p, c_void_p, c_void_p]
    stream = torch.cuda.current_stream().cuda_stream if torch.cuda.is_available() else None
    check(function(ctypes.byref(q), None if kv is None else ctypes.byref(kv), stream))


def outputs(rows: int, segments: int, device: str) -> dict[str, torch.Tensor]:
    names = ("cu_seqlens", "cu_seqlens_padded")
    return {name: torch.full((rows * segments + 1,), -77, dtype=torch.int32, device=device) for name in names}


def expected(lengths: list[list[int]], starts: list[list[int]], row_tokens: int) -> tuple[list[int], list[int]]:
    """cu_seqlens and cu_seqlens_padded of lengths and starts that need no cutting."""
    cu, padded, end = [0], [], 0
    for row, (row_lengths, row_starts) in enumerate(zip(lengths, starts, strict=True)):
        for length, start in zip(row_lengths, row_starts, strict=False):
            cu.append(cu[-1] + max(length, 0))
            padded.append(row * row_tokens + start if length > 0 else end)
            end = padded[-1] + max(length, 0)
    return cu, [*padded, len(lengths) * row_tokens]


def random_rows(seed: int, rows: int, segments: int, row_tokens: int) -> tuple[list[list[int]], list[list[int]]]:
    """Lengths and starts of segments in order with gaps; unused ones, and those at the end of a row, are -1."""
    print(f"seed {seed}")
    generator = torch.Generator().manual_seed(seed)
    lengths, starts = [], []
    for _ in range(rows):
        cuts = torch.randint(0, row_tokens + 1, (2 * segments,), generator=generator).sort().values.tolist()
        begins, ends = cuts[::2], cuts[1::2]
        used = [end > begin for begin, end in zip(begins, ends, strict=True)]
        lengths.append([e - b if u else -1 for b, e, u in zip(begins, ends, used, strict=True)])
        starts.append([b if u else -1 for b, u in zip(begins, used, strict=True)] + [-1])
    return lengths, starts


def ids_of(lengths: list[list[int]], starts: list[list[int]], row_tokens: int) -> torch.Tensor:
    ids = torch.zeros(len(lengths), row_tokens, dtype=torch.int32)
    for row in range(len(lengths)):
        for segment, length in enumerate(lengths[row]):
            ids[row, starts[row][segment] : starts[row][segment] + length] = segment + 1 if length > 0 else 0
    return ids


@pytest.mark.parametrize(
    ("rows", "segments", "row_tokens"),
    [(1, 1, 7), (3, 4, 50), (2, 700, 4000), (5000, 3, 20), (1, 30720, 70000), (3, 60000, 130000)],
)
@pytest.mark.parametrize("kind", ["lengths", "segment_ids"])
def test_against_a_loop(kind: str, rows: int, segments: int, row_tokens: int, device: str) -> None:
    lengths, starts = random_rows(rows + segments, rows, segments, row_tokens)
    result = outputs(rows, segments, device)
    if kind == "lengths":
        given = {
            "lengths": torch.tensor(lengths, dtype=torch.int32, device=device),
            "starts": torch.tensor(starts, dtype=torch.int32, device=device),
        }
    else:
        given = {"segment_ids": ids_of(lengths, starts, row_tokens).to(device)}
    make_cu_seqlens(Segments.of(row_tokens, **given, **result))
    cu, padded = expected(lengths, starts, row_tokens)
    assert result["cu_seqlens"].tolist() == cu
    assert result["cu_seqlens_padded"].tolist() == padded


def test_both_sides_in_one_call(device: str) -> None:
    """Each side has its own rows, segments and kind of description."""
    lengths, starts = random_rows(1, 3, 2, 9)
    q, kv = outputs(3, 2, device), outputs(5, 1, device)
    valid = torch.tensor([[4], [0], [6], [-1], [9]], dtype=torch.int32, device=device)
    make_cu_seqlens(
        Segments.of(9, segment_ids=ids_of(lengths, starts, 9).to(device), **q),
        Segments.of(6, lengths=valid, **kv),
    )
    assert (q["cu_seqlens"].tolist(), q["cu_seqlens_padded"].tolist()) == expected(lengths, starts, 9)
    assert kv["cu_seqlens"].tolist() == [0, 4, 4, 10, 10, 16]  # the last is cut to its row
    assert kv["cu_seqlens_padded"].tolist() == [0, 4, 12, 18, 24, 30]


def test_one_segment_takes_any_id(device: str) -> None:
    ids = torch.tensor([[0, 3, 3, 0], [5, 5, 5, 5]], dtype=torch.int32, device=device)
    result = outputs(2, 1, device)
    make_cu_seqlens(Segments.of(4, segment_ids=ids, **result))
    assert result["cu_seqlens"].tolist() == [0, 2, 6]
    assert result["cu_seqlens_padded"].tolist() == [1, 4, 8]


def test_hostile_values_stay_in_their_row(device: str) -> None:
    huge = 2**31 - 1
    lengths = torch.tensor([[huge, 3], [-huge, 5]], dtype=torch.int32, device=device)
    starts = torch.tensor([[2, huge], [-huge, 6]], dtype=torch.int32, device=device)
    result = outputs(2, 2, device)
    make_cu_seqlens(Segments.of(8, lengths=lengths, starts=starts, **result))
    assert result["cu_seqlens"].tolist() == [0, 6, 6, 6, 8]
    assert result["cu_seqlens_padded"].tolist() == [2, 8, 8, 14, 16]
    ids = torch.tensor([[9, -4, 1, huge]], dtype=torch.int32, device=device)  # ids beyond the number of segments
    result = outputs(1, 2, device)
    make_cu_seqlens(Segments.of(4, segment_ids=ids, **result))
    assert result["cu_seqlens"].tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (dict(lengths=(2, 2)), "q.starts is NULL, but a row has 2 segments"),
        (dict(lengths=(2, 2), starts=(2, 1)), "q.starts has 1 entries a row; allowed: 2 or more"),
        (dict(lengths=(2, 2), starts=(3, 2)), "q.starts has shape"),
        (dict(lengths=(2, 3), starts=(2, 3)), "q.cu_seqlens has shape [5]"),
        (dict(segment_ids=(2, 7)), "q.segment_ids has shape [2, 7]"),
        (dict(segment_ids=(3, 8)), "q.cu_seqlens has 5 entries for 3 rows"),
        (dict(segment_ids=(2, 8), lengths=(2, 2)), "pass one of the two"),
        (dict(), "q.lengths is NULL"),
    ],
    ids=str,
)
def test_wrong_arguments(given: dict, text: str) -> None:
    tensors = {name: torch.ones(shape, dtype=torch.int32) for name, shape in given.items()}
    with pytest.raises(NVTEError) as error:
        make_cu_seqlens(Segments.of(8, **tensors, **outputs(2, 2, "cpu")))
    assert text in str(error.value)


def test_too_many_tokens() -> None:
    lengths = torch.ones(2, 1, dtype=torch.int32)
    with pytest.raises(NVTEError, match="fewer than 2\\^31"):
        make_cu_seqlens(Segments.of(2**30, lengths=lengths, **outputs(2, 1, "cpu")))


def test_too_many_starts() -> None:
    lengths, starts = (torch.ones(2, n, dtype=torch.int32) for n in (1, 2))
    segments = Segments.of(8, lengths=lengths, starts=starts, **outputs(2, 1, "cpu"))
    segments.starts.contents.shape[1] = segments.starts.contents.strides[0] = 2**30
    with pytest.raises(NVTEError, match=r"q.starts has 1073741824 entries a row; .* up to 1073741823"):
        make_cu_seqlens(segments)
