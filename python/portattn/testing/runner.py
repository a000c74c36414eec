"""Runs a Case through the C API and checks every output against the oracle.

Inputs are NaN wherever no sequence has a token, outputs and workspaces are NaN before each call, and every buffer has
guards: what a kernel reads or writes where it must not, shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from portattn.testing import capi
from portattn.testing.compare import assert_close, magnitude
from portattn.testing.random_config import BIASES, Case, Side
from portattn.testing.reference import attention

GUARD = 64  # elements before and after every output, 16-byte aligned in every dtype


def grid_of(side: Side) -> tuple[int, ...]:
    """Dimensions of the token grid in memory order; bhsd has its heads inside and is handled by `allocate`."""
    if side.is_thd:
        return (side.tokens,)
    return (side.seqlen, side.batch) if side.format == "sbhd" else (side.batch, side.seqlen)


def as_batches(tensor: torch.Tensor, side: Side) -> torch.Tensor:
    """Any layout but thd -> [b, s, h, ...], a view."""
    return tensor.transpose(*{"sbhd": (0, 1), "bhsd": (1, 2)}.get(side.format, (0, 0)))


def as_rows(tensor: torch.Tensor, side: Side) -> torch.Tensor:
    """Any layout -> token rows [t, h, ...], one sequence after the other."""
    return tensor if side.is_thd else as_batches(tensor, side).flatten(0, 1)


class Buffer:
    """Views of one NaN-filled allocation with guards, in the memory layout of a case."""

    def __init__(self, side: Side, heads: list[int], dims: list[int], layout: str, odd: bool, dtype, device):
        self.views: list[torch.Tensor] = []
        self._chunks: list[torch.Tensor] = []
        if layout == "fused":  # [..., q heads | k heads | v heads]
            widths = [h * d for h, d in zip(heads, dims, strict=True)]
            whole = self._allocate((*grid_of(side), sum(widths)), dtype, device)
            parts = whole.split(widths, dim=-1)
            self.views = [p.unflatten(-1, (h, d)) for p, h, d in zip(parts, heads, dims, strict=True)]
        elif layout == "interleaved":  # [..., h, 3, d]
            whole = self._allocate((*grid_of(side), heads[0], len(heads), dims[0]), dtype, device)
            self.views = list(whole.unbind(-2))
        else:
            gap_heads, gap_dim = (1, 16) if layout == "gapped" else (0, 0)
            for h, d in zip(heads, dims, strict=True):
                if side.format == "bhsd":
                    shape = (side.batch, h + gap_heads, side.seqlen, d + gap_dim)
                    self.views.append(self._allocate(shape, dtype, device)[:, :h, :, :d])
                else:
                    whole = self._allocate((*grid_of(side), h + gap_heads, d + gap_dim), dtype, device)
                    self.views.append(whole[..., :h, :d])
        if odd:
            self.views = [_odd_strides(view) for view in self.views]

    def _allocate(self, shape: tuple[int, ...], dtype, device) -> torch.Tensor:
        size = 1
        for n in shape:
            size *= n
        chunk = torch.full((size + 2 * GUARD,), torch.nan, dtype=dtype, device=device)
        self._chunks.append(chunk)
        return chunk[GUARD : GUARD + size].view(shape)

    def check_guards(self) -> None:
        """Destroys the views' contents."""
        for view in self.views:
            view.fill_(torch.nan)
        assert all(bool(chunk.isnan().all()) for chunk in self._chunks), "a kernel wrote outside its output"


def _odd_strides(tensor: torch.Tensor) -> torch.Tensor:
    """The same view with stride 7 for every dimension of size 1 but the last."""
    strides = [7 if n == 1 else s for n, s in zip(tensor.shape[:-1], tensor.stride()[:-1], strict=True)]
    return tensor.as_strided(tensor.shape, (*strides, tensor.stride(-1)), tensor.storage_offset())


@dataclass
class Problem:
    """The tensors of a case on a device."""

    case: Case
    device: torch.device
    inputs: dict[str, torch.Tensor | None] = field(default_factory=dict)
    d_o: torch.Tensor | None = None

    @property
    def dtype(self) -> torch.dtype:
        return getattr(torch, self.case.dtype)


def make_problem(case: Case, device: str = "cpu") -> Problem:
    problem = Problem(case, torch.device(device))
    generator = torch.Generator().manual_seed(case.seed)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    q, k, v = _token_tensors(problem)
    (problem.d_o,) = Buffer(
        case.q, [case.heads_q], [case.d_v], _output_layout(case), case.odd_strides, problem.dtype, problem.device
    ).views
    for tensor, side in ((q, case.q), (k, case.kv), (v, case.kv), (problem.d_o, case.q)):
        _fill_sequences(tensor, side, randn)
    problem.inputs = {"q": q, "k": k, "v": v, **_offset_tensors(problem)}
    if case.bias in BIASES:
        problem.inputs["bias"] = _make_bias(case, randn).to(problem.dtype).to(device)
    if case.bias == "alibi":
        shape = (case.batch, case.heads_q) if case.alibi_batch else (case.heads_q,)
        problem.inputs["alibi_slopes"] = (randn(*shape).abs() * 0.3).float().to(device)
    if case.softmax == "learnable":
        problem.inputs["softmax_offset"] = randn(case.heads_q).float().to(device)
    if case.mask == "arbitrary":
        shape = (case.batch, 1, max(case.q.lens), max(case.kv.lens))
        problem.inputs["attention_mask"] = (randn(*shape) > 0.5).to(torch.uint8).to(device)
    if case.dropout > 0:
        rules = case.rules()
        problem.inputs["rng_state"] = torch.tensor([rules.seed, rules.offset], dtype=torch.int64, device=device)
    return problem


def _token_tensors(problem: Problem) -> list[torch.Tensor]:
    """q, k, v, full of NaN; also the shapes and layouts of dq, dk, dv."""
    return [view for buffer in _token_buffers(problem) for view in buffer.views]


def _token_buffers(problem: Problem) -> list[Buffer]:
    case = problem.case
    rest = (case.layout, case.odd_strides, problem.dtype, problem.device)
    q, kv = ([case.heads_q], [case.d_qk]), ([case.heads_kv] * 2, [case.d_qk, case.d_v])
    if case.layout in ("fused", "interleaved"):
        return [Buffer(case.q, q[0] + kv[0], q[1] + kv[1], *rest)]
    return [Buffer(case.q, *q, *rest), Buffer(case.kv, *kv, *rest)]


def _output_layout(case: Case) -> str:
    return "gapped" if case.layout == "gapped" else "plain"


def _fill_sequences(tensor: torch.Tensor, side: Side, randn) -> None:
    """Random numbers where sequences have tokens; everything else stays NaN."""
    for b, span in enumerate(side.spans()):
        batch, first = (tensor, span.start) if side.is_thd else (as_batches(tensor, side)[b], 0)
        rows = batch[first : first + span.length]
        rows.copy_(randn(*rows.shape))


def _offset_tensors(problem: Problem) -> dict[str, torch.Tensor | None]:
    case, tensors = problem.case, {}
    for name, side in (("q", case.q), ("kv", case.kv)):
        if case.has_padding_mask or side.is_thd:
            tensors[f"cu_seqlens_{name}"] = side.offsets()
            tensors[f"cu_seqlens_{name}_padded"] = side.padded_offsets()
    return {
        name: None if values is None else torch.tensor(values, dtype=torch.int32, device=problem.device)
        for name, values in tensors.items()
    }


def _make_bias(case: Case, randn) -> torch.Tensor:
    """Random where some query and key of a sequence meet, NaN elsewhere."""
    batch, heads, rows, cols = case.bias_dims
    meets = torch.zeros(batch, 1, rows, cols, dtype=torch.bool)
    for b, (q, kv) in enumerate(zip(case.q.spans(), case.kv.spans(), strict=True)):
        meets[b % batch, :, : q.length, : kv.length] = True
    return randn(batch, heads, rows, cols).masked_fill(~meets, torch.nan)


def make_config(problem: Problem, *, backend: str | None = None, training: bool = True) -> capi.Config:
    case = problem.case
    attributes = {
        "dtype": problem.dtype,
        "q_format": case.q.format,
        "kv_format": case.kv.format,
        "batch_size": case.batch,
        "num_heads_q": case.heads_q,
        "num_heads_kv": case.heads_kv,
        "head_dim_qk": case.d_qk,
        "head_dim_v": case.d_v,
        "mask_type": case.mask,
        "window_left": case.window[0],
        "window_right": case.window[1],
        "bottom_right_diagonal": case.bottom_right,
        "chunk_size": case.chunk_size,
        "attn_scale": case.scale,
        "softcap": case.softcap,
        "dropout": case.dropout,
        "bias_type": case.bias,
        "softmax_type": case.softmax,
        "is_training": int(training),
        "deterministic": int(case.deterministic),
        "max_segment_seqlen_q": case.promised[0],
        "max_segment_seqlen_kv": case.promised[1],
        "backend": backend,
        "device_type": capi.device_type(problem.device),
        "device_index": problem.device.index or 0,
    }
    for name, side in (("q", case.q), ("kv", case.kv)):
        has_hint = not side.is_thd or (case.seed % 2 and not side.cu_seqlens)
        attributes[f"max_seqlen_{name}"] = side.seqlen if has_hint else 0
        if side.is_thd:
            attributes[f"total_tokens_{name}"] = side.tokens
    if case.bias in BIASES:
        names = ("bias_batch", "bias_heads", "bias_seqlen_q", "bias_seqlen_kv")
        attributes |= dict(zip(names, case.bias_dims, strict=True))
        attributes["bias_grad"] = 1
    return capi.Config(**attributes)


def run_forward(problem: Problem, backend: str | None = None) -> dict[str, torch.Tensor]:
    """o and lse, each a copy in the case's layout."""
    case = problem.case
    layout = _output_layout(case)
    o = Buffer(case.q, [case.heads_q], [case.d_v], layout, case.odd_strides, problem.dtype, problem.device)
    lse = Buffer(case.q, [case.heads_q], [1], "plain", case.odd_strides, torch.float32, problem.device)
    views = {"o": o.views[0], "lse": lse.views[0].squeeze(-1)}
    workspace = capi.forward(make_config(problem, backend=backend), problem.inputs, views)
    results = {name: view.clone() for name, view in views.items()}
    for guarded in (o, lse, workspace):
        guarded.check_guards()
    return results


def run_backward(
    problem: Problem, forward: dict[str, torch.Tensor], backend: str | None = None
) -> dict[str, torch.Tensor]:
    """dq, dk, dv and, where the case has them, dbias and d_softmax_offset."""
    buffers = _token_buffers(problem)
    views = dict(zip(("dq", "dk", "dv"), (view for buffer in buffers for view in buffer.views), strict=True))
    for gradient, of in (("dbias", "bias"), ("d_softmax_offset", "softmax_offset")):
        if problem.inputs.get(of) is not None:
            views[gradient] = torch.full_like(problem.inputs[of], torch.nan)
    grad_inputs = {"o": forward["o"], "lse": forward["lse"], "d_o": problem.d_o}
    config = make_config(problem, backend=backend)
    workspace = capi.backward(config, problem.inputs, grad_inputs, views)
    results = {name: view.clone() for name, view in views.items()}
    for guarded in (*buffers, workspace):
        guarded.check_guards()
    return results


def run_oracle(problem: Problem, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Every output as token rows, computed in `dtype`."""
    case, inputs = problem.case, problem.inputs
    leaves = {
        name: as_rows(inputs[name], side).to(dtype).detach().requires_grad_()
        for name, side in (("q", case.q), ("k", case.kv), ("v", case.kv))
    }
    for name in ("bias", "softmax_offset"):
        if inputs.get(name) is not None:
            leaves[name] = inputs[name].to(dtype).detach().requires_grad_()
    slopes, mask = inputs.get("alibi_slopes"), inputs.get("attention_mask")
    if case.softmax == "off-by-one":
        sink = torch.zeros(case.heads_q, dtype=dtype, device=problem.device)
    else:
        sink = leaves.get("softmax_offset")
    o, lse = attention(
        leaves["q"], leaves["k"], leaves["v"], case.q.spans(), case.kv.spans(), case.rules(),
        bias=leaves.get("bias"), sink=sink, masked_out=None if mask is None else mask.bool(),
        alibi_slopes=None if slopes is None else slopes.reshape(-1, case.heads_q),
    )  # fmt: skip
    d_o = as_rows(problem.d_o, case.q).to(dtype)
    valid = torch.zeros(d_o.shape[0], dtype=torch.bool, device=problem.device)
    for span in case.q.spans():
        valid[span.start : span.start + span.length] = True
    names = list(leaves)
    gradients = torch.autograd.grad(
        o, [leaves[name] for name in names], d_o.masked_fill(~valid[:, None, None], 0), allow_unused=True
    )
    results = {"o": o.detach(), "lse": lse.detach()}
    for name, gradient in zip(names, gradients, strict=True):
        results[f"d_{name}" if name == "softmax_offset" else f"d{name}"] = (
            torch.zeros_like(leaves[name]) if gradient is None else gradient
        )
    return results


def _score_gradient_terms(problem: Problem) -> dict[str, float]:
    """Sizes of the terms of dq, dk and dbias. A row that sees one key has p = 1, and dp - delta is rounding alone."""
    largest = {name: magnitude(problem.inputs[name]) for name in ("q", "k")}
    d_score = math.prod(magnitude(t.double().norm(dim=-1)) for t in (problem.d_o, problem.inputs["v"]))
    scale = abs(problem.case.attn_scale)
    d_bias = d_score * (scale if problem.case.bias == "pre_scale_bias" else 1.0)
    return {"dq": scale * d_score * largest["k"], "dk": scale * d_score * largest["q"], "dbias": d_bias}


def check_results(problem: Problem, results: dict[str, torch.Tensor]) -> None:
    """Compares what the C API gave, in the case's layout, with the oracle."""
    case = problem.case
    truth = run_oracle(problem, torch.float64)
    eager = run_oracle(problem, problem.dtype)
    eager["lse"] = run_oracle(problem, torch.float32)["lse"] if problem.dtype != torch.float64 else eager["lse"]
    terms = _score_gradient_terms(problem)
    sides = {"o": case.q, "lse": case.q, "dq": case.q, "dk": case.kv, "dv": case.kv}
    for name, result in results.items():
        rows = as_rows(result, sides[name]) if name in sides else result
        dtype = torch.float32 if name == "lse" else problem.dtype
        assert_close(name, rows, truth[name], eager[name], dtype, terms.get(name, 0.0))


def check_case(case: Case, device: str = "cpu", forward: str | None = None, backward: str | None = None) -> None:
    """Forward and backward of a case, each in the named backend, with the repeat command in the failure."""
    try:
        problem = make_problem(case, device)
        outputs = run_forward(problem, forward)
        gradients = run_backward(problem, outputs, backward or forward)
        check_results(problem, outputs | gradients)
    except Exception as error:
        backends = f" --forward={forward} --backward={backward or forward}" if forward else ""
        raise AssertionError(f"{error}\nrepeat: {case.command()}{backends}") from error
