"""The backend table, asked through the C API on top of a device library that has the instances of sm_90, but no
kernels: what it answers depends on nothing that is built or installed."""

from __future__ import annotations

import ctypes
from pathlib import Path

import generate
import native
from capi import ATTRS, BACKENDS, DTYPES, FORMATS, MASKS, SUCCESS, Api

ROWS = ("score_mod_jit", "small_seq", "fused_varlen", "unfused")  # in the table's order
DTYPE_VALUES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp64": "float64"}
ENUMS = {
    "dtype": {name: DTYPES[value] for name, value in DTYPE_VALUES.items()},
    "q_format": FORMATS,
    "kv_format": FORMATS,
    "mask_type": MASKS,
    "bias_type": {"no_bias": 0, "pre_scale_bias": 1, "post_scale_bias": 2, "alibi": 3},
    "softmax_type": {"vanilla": 0, "off-by-one": 1, "learnable": 2},
    "backend": BACKENDS,
}

# A config that the first enabled row takes; a case is what it changes.
BASELINE = {
    "dtype": "bf16", "batch_size": 4, "num_heads_q": 8, "num_heads_kv": 2, "head_dim_qk": 128, "head_dim_v": 128,
    "max_seqlen_q": 1024, "max_seqlen_kv": 1024, "total_tokens_q": 4096, "total_tokens_kv": 4096, "is_training": 1,
    "device_type": 1,
}  # fmt: skip

Case = dict[str, "int | float | str"]


class BackendTable:
    def __init__(self, folder: Path):
        native.build_core(folder)
        plugin = ctypes.CDLL(str(native.build_fake_plugin(folder, "cuda")))
        codegen = native.CSRC / "codegen"
        kernels = generate.read_toml(codegen / "kernels.toml")["fmha"]
        left_out, not_in_base = (
            generate.read_toml(codegen / "tuning" / f"{arch}.toml").get("left_out", []) for arch in ("sm90", "sm80")
        )
        for dtype in kernels["dtypes"]:
            for qk, v in sorted(kernels["head_dims"]):
                name = f"{dtype} {qk}x{v}"
                if name not in left_out:
                    plugin.fake_add_instance(ENUMS["dtype"][dtype], qk, v, int(name not in not_in_base))
        self.api = Api(folder / "libportattn.so")

    def ask(self, case: Case) -> dict[str, str]:
        """Row -> "chosen", "available", "refused: ..." or "not tried: ...", as the library explains the case."""
        numbers = {name: ENUMS.get(name, {}).get(value, value) for name, value in (BASELINE | case).items()}
        handle = self.api.config(**numbers)
        lines = dict(line.split(": ", 1) for line in self.api.explain(handle).splitlines())
        status, backend = self.api.backend(handle)
        chosen = [name for name, text in lines.items() if text == "chosen"]
        assert chosen == ([backend] if status == SUCCESS else []), "the explanation and the choice differ"
        assert tuple(lines) == ROWS
        self.api.destroy(handle)
        return lines


assert set(BASELINE) <= set(ATTRS)
