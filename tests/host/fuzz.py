"""Random and hostile calls of the C API, for a process that runs the sanitised libraries.

    python fuzz.py LIBRARY [--seed N] [--calls N]

Configs get random attributes; tensors are right, or broken in one of the ways below; cu_seqlens hold anything. Every
call must return a status, a broken one must not succeed, and outputs of a successful one must be defined: inputs are
zeros and outputs are filled with NaN before, so o and the gradients must come back finite, and lse must not be NaN.
A failure prints the seed of its round; run that one again with --seed.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import random
from collections.abc import Callable

from capi import (
    ATTRS,
    BACKENDS,
    BACKWARD,
    DTYPES,
    FORMATS,
    FORWARD,
    INTERNAL,
    ITEM_BYTES,
    MASKS,
    SUCCESS,
    Api,
    Buffer,
    GradInputs,
    GradOutputs,
    Inputs,
    Outputs,
    pack,
)
from problem import DTYPE_NAMES, Problem

HOSTILE_INTS = [-(2**63), -(2**31), -2, -1, 0, 1, 2, 7, 64, 65, 66, 67, 2**29, 2**31 - 2, 2**31 - 1, 2**31, 2**63 - 1]
HOSTILE_FLOATS = [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e-300, 0.5, 0.999999, 1.0, 1e30, 1e300]
HOSTILE_LENGTHS = [-(2**31), -5, -1, 0, 1, 2, 3, 5, 8, 9, 1000, 2**30, 2**31 - 1]


class Fuzzer:
    def __init__(self, api: Api):
        self.api = api
        self.calls = 0

    def round(self, seed: int) -> None:
        rng = random.Random(seed)
        if rng.random() < 0.1:
            self.abuse_config(rng)
        else:
            self.run_problem(rng)

    def expect(self, status: int) -> int:
        self.calls += 1
        assert 0 <= status < INTERNAL, f"status {status}: {self.api.error()}"
        assert (status == SUCCESS) == (self.api.error() == ""), self.api.error()
        return status

    # ---- configs ------------------------------------------------------------------------------------------------

    def abuse_config(self, rng: random.Random) -> None:
        """Attributes of any value in any order, with every question in between."""
        lib, handle, api = self.api.lib, self.api.config(), self.api
        integer, number = ctypes.c_int64(), ctypes.c_double()
        for _ in range(30):
            attr = rng.choice([*ATTRS.values(), rng.choice(HOSTILE_INTS) % 2**31])
            value = rng.choice([*HOSTILE_INTS, rng.randint(0, 70)])
            self.expect(lib.nvte_fused_attn_config_set_int(handle, attr, value))
            self.expect(lib.nvte_fused_attn_config_set_float(handle, attr, rng.choice(HOSTILE_FLOATS)))
            self.expect(lib.nvte_fused_attn_config_get_int(handle, attr, ctypes.addressof(integer)))
            self.expect(lib.nvte_fused_attn_config_get_float(handle, attr, ctypes.addressof(number)))
        for name in ("batch_size", "num_heads_q", "num_heads_kv", "head_dim_qk", "max_seqlen_q", "total_tokens_q"):
            api.set(handle, name, rng.choice([v for v in HOSTILE_INTS if v > 0]))
        size, text = ctypes.c_size_t(), ctypes.create_string_buffer(64)
        self.expect(lib.nvte_fused_attn_workspace_size(handle, rng.choice([0, 1, 2, -1]), ctypes.addressof(size)))
        self.expect(lib.nvte_get_fused_attn_backend(handle, ctypes.addressof(size)))
        capacity = rng.choice([0, 1, 63])
        self.expect(lib.nvte_explain_fused_attn_backend(handle, text, capacity, ctypes.addressof(size)))
        self.expect(api.forward(handle, pack(Inputs, {}), pack(Outputs, {})))
        self.expect(api.backward(handle, pack(Inputs, {}), pack(GradInputs, {}), pack(GradOutputs, {})))
        api.destroy(handle)

    # ---- calls --------------------------------------------------------------------------------------------------

    def run_problem(self, rng: random.Random) -> None:
        attributes = random_attributes(rng)
        problem = Problem(attributes)
        handle = self.api.config(**attributes)
        status, _ = self.api.backend(handle)
        if self.expect(status) == SUCCESS:
            fill_hostile_lengths(rng, problem)
            for direction in (FORWARD, BACKWARD):
                self.run_call(rng, problem, handle, direction)
            problem.run(self.api, handle, FORWARD)
            self.check_outputs(problem.outputs)
            problem.run(self.api, handle, BACKWARD)
            self.check_outputs(problem.grad_outputs)
            self.calls += 2
        self.api.destroy(handle)

    def run_call(self, rng: random.Random, problem: Problem, handle: ctypes.c_void_p, direction: int) -> None:
        """One call, with one thing wrong in it."""
        workspace = problem.workspace(self.api, handle, direction)
        inputs = pack(Inputs, problem.inputs)
        first, second = (Outputs, None) if direction == FORWARD else (GradInputs, GradOutputs)
        tensors = [problem.inputs, problem.outputs if direction == FORWARD else problem.grad_inputs]
        bundles = [inputs, pack(first, tensors[1])]
        if second is not None:
            tensors.append(problem.grad_outputs)
            bundles.append(pack(second, problem.grad_outputs))
        which = rng.randrange(len(bundles))
        undo, must_fail = break_something(rng, bundles[which], tensors[which])
        call = self.api.forward if direction == FORWARD else self.api.backward
        status = self.expect(call(handle, *bundles, workspace))
        assert not (must_fail and status == SUCCESS), f"a broken argument was taken: {must_fail}"
        undo()

    def check_outputs(self, outputs: dict[str, Buffer]) -> None:
        for name, buffer in outputs.items():
            values = floats_of(buffer)
            if name == "lse":
                assert not any(math.isnan(x) for x in values), f"{name} holds NaN: {values}"
            else:
                assert all(math.isfinite(x) for x in values), f"{name} is not finite: {values}"


def floats_of(buffer: Buffer) -> list[float]:
    name = DTYPE_NAMES[buffer.tensor.dtype]
    if name in ("float32", "float64"):
        return buffer.read(ctypes.c_float if name == "float32" else ctypes.c_double)
    exponent = 0x7C00 if name == "float16" else 0x7F80
    return [math.nan if bits & exponent == exponent else 0.0 for bits in buffer.read(ctypes.c_uint16)]


def random_attributes(rng: random.Random) -> dict[str, float]:
    """A config that check_config() takes, small enough to run."""
    heads_kv = rng.choice([1, 2])
    attributes: dict[str, float] = {
        "dtype": DTYPES[rng.choice(["float32", "bfloat16", "float64"])], "batch_size": rng.choice([0, 1, 2, 3]),
        "num_heads_q": heads_kv * rng.choice([1, 2]), "num_heads_kv": heads_kv,
        "head_dim_qk": rng.choice([8, 16, 32, 20]), "head_dim_v": rng.choice([8, 24, 32, 1]),
        "max_seqlen_q": rng.choice([0, 1, 5, 9]), "max_seqlen_kv": rng.choice([0, 1, 7, 70]), "is_training": 1,
        "mask_type": rng.choice(list(MASKS.values())), "window_left": rng.choice([-1, 0, 3, 2**63 - 1]),
        "window_right": rng.choice([-1, 0, 2, 2**63 - 1]), "chunk_size": rng.choice([0, 0, 1, 4, 2**63 - 1]),
        "attn_scale": rng.choice([0.0, 1.0, -0.5, 1e30]), "softcap": rng.choice([0.0, 5.0]),
        "dropout": rng.choice([0.0, 0.3, 0.99999]), "softmax_type": rng.choice([0, 1, 2]),
        "deterministic": rng.choice([0, 1]), "backend": BACKENDS[rng.choice(["none", "none", "unfused"])],
        "q_format": rng.choice(list(FORMATS.values())), "kv_format": rng.choice(list(FORMATS.values())),
        "total_tokens_q": rng.choice([0, 1, 9, 20]), "total_tokens_kv": rng.choice([0, 1, 9, 80]),
    }  # fmt: skip
    attributes["bias_type"] = rng.choice([0, 1, 2, 3])
    if attributes["bias_type"] in (1, 2):
        attributes["bias_batch"] = rng.choice([1, attributes["batch_size"]])
        attributes["bias_heads"] = rng.choice([1, attributes["num_heads_q"]])
        attributes["bias_seqlen_q"] = rng.choice([1, attributes["max_seqlen_q"], attributes["max_seqlen_q"] + 2])
        attributes["bias_seqlen_kv"] = attributes["max_seqlen_kv"] + rng.choice([0, 3])
        attributes["bias_grad"] = rng.choice([0, 1])
    return attributes


def fill_hostile_lengths(rng: random.Random, problem: Problem) -> None:
    """cu_seqlens of any content: decreasing, negative, beyond the buffer."""
    for side in ("q", "kv"):
        lengths = problem.inputs.get(f"cu_seqlens_{side}")
        if lengths is not None and rng.random() < 0.8:
            lengths.write(ctypes.c_int32, [rng.choice(HOSTILE_LENGTHS) for _ in range(problem.batch + 1)])
        if problem.get(f"{side}_format") == FORMATS["thd"] and rng.random() < 0.3:
            starts = Buffer("int32", [problem.batch + 1])
            starts.write(ctypes.c_int32, [rng.choice(HOSTILE_LENGTHS) for _ in range(problem.batch + 1)])
            problem.inputs[f"cu_seqlens_{side}_padded"] = starts


def break_something(
    rng: random.Random, bundle: ctypes.Structure, tensors: dict[str, Buffer]
) -> tuple[Callable[[], None], str]:
    """Breaks the bundle or one of its tensors. Returns how to undo that, and what was done if it cannot be right."""
    kind = rng.choice(
        ["nothing", "bundle", "missing", "extra", "misaligned struct", "field", "data", "shape", "stride"]
    )
    name = rng.choice(list(tensors))
    tensor = tensors[name].tensor
    saved = bytes(tensor)

    def undo() -> None:
        ctypes.memmove(ctypes.addressof(tensor), saved, len(saved))

    done = f"{kind} of {name}"
    dim = rng.randrange(tensor.ndim)
    if kind == "nothing":
        done = ""
    elif kind == "bundle":
        bundle.struct_size += rng.choice([-8, -1, 1, 8])
    elif kind == "missing":
        setattr(bundle, name, None)
        if name.endswith("_padded"):
            done = ""
    elif kind == "extra":
        absent = [field for field in bundle.names if field not in tensors and not field.endswith("_padded")]
        if not absent:
            return undo, ""
        setattr(bundle, absent[0], ctypes.addressof(tensor))
    elif kind == "misaligned struct":
        setattr(bundle, name, getattr(bundle, name) + rng.randint(1, 7))
    elif kind == "field":
        field = rng.choice(["struct_size", "dtype", "ndim", "device_type", "device_index"])
        value = getattr(tensor, field) ^ rng.choice([1, 2, 32, 0x40000000])
        setattr(tensor, field, value)
    elif tensors[name].num_bytes == 0:
        done = ""
    elif kind == "data":
        item = ITEM_BYTES[DTYPE_NAMES[tensor.dtype]]
        tensor.data = None if item == 1 or rng.random() < 0.5 else tensor.data + rng.randint(1, item - 1)
    elif kind == "shape":
        tensor.shape[dim] = rng.choice([-1, -(2**63), tensor.shape[dim] - 1])
        if name == "attention_mask":
            done = ""
    elif tensor.shape[dim] > 1:
        tensor.strides[dim] = rng.choice([-1, -(2**63), 2**62, 2**63 - 1])
    else:
        done = ""
    return undo, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("--seed", type=int, help="run this round alone")
    parser.add_argument("--calls", type=int, default=20000)
    args = parser.parse_args()
    fuzzer = Fuzzer(Api(args.library))
    seed = args.seed or 1
    try:
        while fuzzer.calls < args.calls:
            print(f"round {seed}", end="\r", flush=True)
            fuzzer.round(seed)
            if args.seed is not None:
                break
            seed += 1
    except AssertionError as error:
        raise SystemExit(f"round failed; repeat it with --seed {seed}: {error}") from error
    print(f"{fuzzer.calls} calls in {seed} rounds")


if __name__ == "__main__":
    main()
