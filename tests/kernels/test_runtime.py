"""How calls are run, not what they compute: threads, side streams, graph replay, tensors beyond 2^31 elements."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from portattn.testing import capi
from portattn.testing.compare import max_error
from portattn.testing.random_config import Case, Side, random_case
from portattn.testing.runner import (
    Problem,
    check_case,
    check_results,
    make_config,
    make_problem,
    run_backward,
    run_forward,
)

BACKENDS = ("fused_varlen", "unfused")
SIDE = Side("thd", (130, 1, 300, 64), tail=40)
CASE = Case(q=SIDE, kv=SIDE, heads_q=4, d_qk=64, d_v=64, dtype="bfloat16", mask="padding_causal")
SHORT_Q, SHORT_KV = Side("thd", (1, 1, 1, 1), tail=8), Side("thd", (16, 3, 7, 16), tail=10)
SHORT = Case(q=SHORT_Q, kv=SHORT_KV, heads_q=4, heads_kv=4, d_qk=128, d_v=128, dtype="bfloat16", mask="padding",
             promised=(1, 16))  # fmt: skip
SHORT_GROUPED = replace(SHORT, heads_q=8, heads_kv=2)


@pytest.fixture
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    return torch.device("cuda")


def test_two_threads(device: str) -> None:
    """Each thread has cases, configs and (on a GPU) a stream of its own."""
    failures: list[Exception] = []

    def work(first_seed: int) -> None:
        try:
            stream = torch.cuda.Stream() if device == "cuda" else None
            with torch.cuda.stream(stream):
                for seed in range(first_seed, first_seed + 10):
                    check_case(random_case(seed), device, BACKENDS[seed % 2])
        except Exception as error:  # an assertion in a thread would be lost
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_errors_of_two_threads_do_not_mix() -> None:
    """The last error's text belongs to the thread that made it."""
    texts: dict[str, str] = {}
    barrier = threading.Barrier(2)

    def work(name: str, **attributes: object) -> None:
        config = capi.Config(dtype=torch.float32, batch_size=1, max_seqlen_q=8, max_seqlen_kv=8, **attributes)
        barrier.wait()
        try:
            config.workspace_bytes(capi.FORWARD)
        except capi.NVTEError as error:
            texts[name] = str(error)

    dims = {"head_dim_qk": 8, "head_dim_v": 8}
    jobs = {"heads": dict(dims, num_heads_q=3, num_heads_kv=2), "dims": dict(num_heads_q=2, num_heads_kv=2)}
    threads = [threading.Thread(target=work, args=(name,), kwargs=job) for name, job in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(texts) == set(jobs) and texts["heads"] != texts["dims"]


@pytest.mark.L1
@pytest.mark.parametrize(
    ("case", "backend"),
    [(CASE, "fused_varlen"), (CASE, "unfused"), (SHORT, "small_seq"), (SHORT_GROUPED, "small_seq")],
)
def test_side_stream_is_the_stream_of_the_kernels(case: Case, backend: str, gpu: torch.device) -> None:
    """Inputs appear on the side stream only after a long wait: a kernel on another stream would read NaN."""
    problem = make_problem(case, "cuda")
    inputs = {name: problem.inputs[name].clone() for name in ("q", "k", "v")}
    for name in inputs:
        problem.inputs[name].fill_(torch.nan)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        for name, value in inputs.items():
            problem.inputs[name].copy_(value)
        outputs = run_forward(problem, backend)
        results = outputs | run_backward(problem, outputs, backend)
    stream.synchronize()
    check_results(problem, results)


class _Captured:
    """A forward and a backward captured in one graph, with their buffers."""

    def __init__(self, problem: Problem, backend: str):
        self.problem = problem
        config = make_config(problem, backend=backend)
        inputs = problem.inputs
        self.results = {name: torch.empty_like(inputs[name[1]]) for name in ("dq", "dk", "dv")}
        self.results["o"] = torch.empty_like(problem.d_o)
        self.results["lse"] = torch.empty(inputs["q"].shape[:2], device=problem.device)
        outputs = {name: self.results[name] for name in ("o", "lse")}
        gradients = {name: self.results[name] for name in ("dq", "dk", "dv")}
        self._scratch = [capi.Workspace(config, d, problem.device) for d in (capi.FORWARD, capi.BACKWARD)]
        self.graph = torch.cuda.CUDAGraph()
        run_backward(problem, run_forward(problem, backend), backend)  # loads the kernels before the capture
        with torch.cuda.graph(self.graph):
            capi.forward(config, inputs, outputs, workspace=self._scratch[0])
            grad_inputs = outputs | {"d_o": problem.d_o}
            capi.backward(config, inputs, grad_inputs, gradients, workspace=self._scratch[1])

    def replay(self, case: Case) -> None:
        """Runs the graph on the lengths and numbers of another case of the same capacity, and checks it."""
        fresh = make_problem(case, "cuda")
        for name, tensor in self.problem.inputs.items():
            if tensor is not None:
                tensor.copy_(fresh.inputs[name])
        self.problem.d_o.copy_(fresh.d_o)
        for tensor in self.results.values():
            tensor.fill_(torch.nan)
        self.graph.replay()
        check_results(fresh, self.results)


@pytest.mark.L1
@pytest.mark.parametrize("backend", BACKENDS)
def test_graph_replay_with_changed_lengths(backend: str, gpu: torch.device) -> None:
    tokens = CASE.q.tokens
    captured = _Captured(make_problem(CASE, "cuda"), backend)
    for seed, lens in enumerate([(130, 1, 300, 64), (0, 0, 0, 0), (tokens, 0, 0, 0), (5, 90, 0, 200), (1, 1, 1, 1)]):
        side = Side("thd", lens, tail=tokens - sum(lens))
        captured.replay(replace(CASE, seed=seed, q=side, kv=side))


@pytest.mark.L1
@pytest.mark.parametrize("case", [SHORT, SHORT_GROUPED])
def test_graph_replay_of_short_segments(case: Case, gpu: torch.device) -> None:
    """Lengths change between replays, beyond what was promised too."""
    captured = _Captured(make_problem(case, "cuda"), "small_seq")
    none = (0, 0, 0, 0)
    lengths = [
        ((1, 1, 1, 1), (16, 3, 7, 16)),
        ((0, 1, 0, 1), (2, 2, 2, 2)),
        (none, none),
        ((1, 9, 1, 1), (52, 0, 0, 0)),
    ]
    for seed, (lens_q, lens_kv) in enumerate(lengths):
        q, kv = Side("thd", lens_q, tail=12 - sum(lens_q)), Side("thd", lens_kv, tail=52 - sum(lens_kv))
        captured.replay(replace(case, seed=seed, q=q, kv=kv))


@pytest.mark.L1
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fmt", ["bshd", "thd"])
def test_more_than_two_to_the_31_elements(backend: str, fmt: str, gpu: torch.device) -> None:
    """The last of many equal sequences, whose offsets need 64 bits, must equal the first."""
    batch, seqlen, heads, dim = 1030, 512, 32, 128
    assert batch * seqlen * heads * dim > 2**31
    side = Side(fmt, (seqlen,) * batch)
    case = Case(
        q=side, kv=side, heads_q=heads, heads_kv=heads, d_qk=dim, d_v=dim, dtype="bfloat16", mask="padding_causal"
    )
    free, _ = torch.cuda.mem_get_info()
    if free < 14 * batch * seqlen * heads * dim * 2:
        pytest.skip(f"needs {14 * batch * seqlen * heads * dim * 2 >> 30} GiB of GPU memory")
    shape = (batch, seqlen, heads, dim)
    rows = [torch.randn(1, *shape[1:], device=gpu, dtype=torch.bfloat16) for _ in range(4)]
    q, k, v, d_o = (t.expand(shape).contiguous() if fmt == "bshd" else t.expand(shape).flatten(0, 1) for t in rows)
    offsets = torch.arange(0, (batch + 1) * seqlen, seqlen, dtype=torch.int32, device=gpu)
    inputs = {"q": q, "k": k, "v": v, "cu_seqlens_q": offsets, "cu_seqlens_kv": offsets}
    problem = Problem(case, gpu, inputs, d_o)
    config = make_config(problem, backend=backend)
    outputs = {"o": torch.full_like(q, torch.nan), "lse": torch.full(q.shape[:-1], torch.nan, device=gpu)}
    capi.forward(config, inputs, outputs)
    gradients = {name: torch.full_like(q, torch.nan) for name in ("dq", "dk", "dv")}
    capi.backward(config, inputs, outputs | {"d_o": d_o}, gradients)
    small = replace(case, q=Side("bshd", (seqlen,)), kv=Side("bshd", (seqlen,)))
    first = Problem(small, gpu, {"q": rows[0], "k": rows[1], "v": rows[2], "cu_seqlens_q": offsets[:2],
                                 "cu_seqlens_kv": offsets[:2]}, rows[3])  # fmt: skip
    results = {name: t.view(batch, seqlen, *t.shape[-2 if name != "lse" else -1 :]) for name, t in
               (outputs | gradients).items()}  # fmt: skip
    check_results(first, {name: tensor[:1] for name, tensor in results.items()})
    for name, tensor in results.items():
        assert max_error(tensor[-1:], tensor[:1]) <= (1e-2 if name == "dq" else 0.0), f"{name} of the last sequence"
