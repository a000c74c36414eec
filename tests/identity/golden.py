"""What every device must agree on, in golden.npz: outputs and gradients of small cases and how far from float64 each
may be, which elements dropout drops, and which tiles the planner chooses.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from planner import run_plan

from portattn.common.library import describe_devices, library_path
from portattn.testing.compare import FLOORS, magnitude, max_error
from portattn.testing.dropout import dropout_factor
from portattn.testing.random_config import Case, Side
from portattn.testing.runner import Problem, make_problem, run_oracle

GOLDEN = Path(__file__).with_name("golden.npz")

THD = Side("thd", (19, 0, 7), gaps=(2, 0, 1), lead=1, tail=2)
BASE = Case(
    q=THD, kv=THD, heads_q=2, heads_kv=1, dtype="bfloat16", mask="padding_causal", layout="gapped", deterministic=True
)
WIDE = replace(BASE, q=Side("thd", (5, 6)), kv=Side("thd", (9, 3)), mask="padding_causal_bottom_right")

CASES = {
    "causal": BASE,
    "window-fp16": replace(BASE, dtype="float16", window=(4, 0), q=Side(lens=(9, 14), extra=2),
                           kv=Side(lens=(14, 9), extra=2)),
    "full-fp32": replace(BASE, dtype="float32", q=Side("sbhd", (11, 11)), kv=Side("sbhd", (15, 15)), mask="no_mask"),
    "64": replace(BASE, d_qk=64, d_v=64, q=Side("bhsd", (12,)), kv=Side("bhsd", (17,)), mask="causal_bottom_right"),
    "128": replace(WIDE, d_qk=128, d_v=128),
    "192-128-fp16": replace(WIDE, d_qk=192, d_v=128, dtype="float16"),
    "256": replace(WIDE, d_qk=256, d_v=256, q=Side("thd", (3, 2)), kv=Side("thd", (4, 3))),
    "chunk": replace(BASE, chunk_size=4),
    "softcap-alibi-fp16": replace(BASE, dtype="float16", softcap=2.0, bias="alibi", mask="padding"),
    "bias-sink": replace(BASE, bias="post_scale_bias", bias_shape="1hss", softmax="learnable"),
    "dropout": replace(BASE, dropout=0.3),
}  # fmt: skip
BACKENDS = ("fused_varlen", "unfused")

# With v the identity, o shows which probabilities were dropped.
DROPOUT = replace(
    BASE, q=Side("thd", (100, 64)), kv=Side("thd", (64, 64)), mask="padding", d_qk=64, d_v=64, dropout=0.4
)

# batch, tokens of the buffer, rows of a tile, cu_seqlens, cu_seqlens_padded
PLANS = {
    "ordinary": (3, 200, 64, (0, 70, 70, 150), None),
    "padded": (3, 200, 32, (0, 10, 75, 80), (4, 40, 120, 180)),
    "leading-gap": (2, 100, 16, (30, 31, 90), None),
    "decreasing": (3, 105, 64, (0, 60, 20, 105), None),
    "overlapping": (3, 105, 16, (0, 30, 70, 100), (60, 30, 0, 105)),
    "wild": (3, 105, 64, (-(2**31), 2**31 - 1, -(2**31), 2**31 - 1), None),
    "many": (300, 3000, 64, tuple(range(0, 3010, 10)), None),
}

Arrays = dict[str, np.ndarray]


def digest_of_inputs(problem: Problem) -> np.ndarray:
    """Of the random numbers: where they differ, so does everything."""
    digest = hashlib.sha256()
    for tensor in (*problem.inputs.values(), problem.d_o):
        if tensor is not None:
            digest.update(tensor.detach().cpu().contiguous().nan_to_num(nan=0).view(torch.uint8).numpy().tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def expected_values(case: Case) -> Arrays:
    """float64 results, kept in the precision of their dtype, and the error that each may have."""
    problem = make_problem(case)
    truth, eager = run_oracle(problem, torch.float64), run_oracle(problem, problem.dtype)
    arrays = {"inputs": digest_of_inputs(problem)}
    for name, values in truth.items():
        is_half = name != "lse" and problem.dtype != torch.float32
        dtype = problem.dtype if name != "lse" else torch.float32
        allowed = 2 * max_error(eager[name], values) + FLOORS[dtype] * magnitude(values)
        arrays[name] = values.to(torch.float16 if is_half else torch.float32).numpy()
        arrays[f"{name}-allowed"] = np.float64(allowed)
    return arrays


def identity_problem(device: str = "cpu") -> Problem:
    problem = make_problem(DROPOUT, device)
    eye = torch.eye(64, device=device).repeat(2, 1)[:, None, :]
    problem.inputs["v"].copy_(eye.expand(-1, DROPOUT.heads_kv, -1))
    return problem


def flatten(groups: dict[str, Arrays]) -> Arrays:
    return {f"{group}/{name}": array for group, arrays in groups.items() for name, array in arrays.items()}


def host_library() -> Path:
    """The CPU library in use, as the C API describes it."""
    described = re.search(r"^host: (\S+\.so)", describe_devices(), re.MULTILINE)
    assert described is not None, describe_devices()
    return library_path(described[1])


def kept_elements() -> Arrays:
    """Of every sequence, what the replica of the generator keeps."""
    rules, kept = DROPOUT.rules(), []
    for b, (q, kv) in enumerate(zip(DROPOUT.q.lens, DROPOUT.kv.lens, strict=True)):
        for h in range(DROPOUT.heads_q):
            stream = b * DROPOUT.heads_q + h
            kept.append(dropout_factor(rules.dropout, rules.seed, rules.offset, stream, q, kv).flatten() != 0)
    return {"kept": np.packbits(torch.cat(kept).numpy())}


def write() -> None:
    arrays = {name: expected_values(case) for name, case in CASES.items()}
    plans = {f"plan-{name}": run_plan(host_library(), plan, "cpu") for name, plan in PLANS.items()}
    np.savez_compressed(GOLDEN, **flatten(arrays | plans | {"dropped": kept_elements()}))
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")
