"""The custom calls of libportattn_jax.so: their registration, and one call on one device's arrays.

The call is a primitive of its own because the workspace, a result of the custom call, depends on the platform: its
size is asked for when the call is lowered for one. Offsets and lengths become cu_seqlens in a custom call before it.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import mlir

from portattn.common.config import FORWARD, Config
from portattn.common.enums import ConfigAttr
from portattn.common.library import JAX_LIBRARY, core, library_path

TARGETS = {"fused_attn_fwd", "fused_attn_bwd", "cu_seqlens"}
PLATFORMS = {"cpu": "cpu", "cuda": "CUDA", "rocm": "ROCM"}  # of handlers and lowerings: XLA's name
DEVICE_TYPES = {"cuda": 1, "rocm": 2}  # NVTEDeviceType
WORKSPACE_ALIGNMENT = 256


@functools.cache
def register() -> None:
    """Tells XLA of the handlers. Once, before the first call is traced."""
    library = ctypes.CDLL(str(library_path(JAX_LIBRARY)))
    for target in TARGETS:
        for platform, xla_name in PLATFORMS.items():
            handler = jax.ffi.pycapsule(getattr(library, f"portattn_jax_{target}_{platform}"))
            jax.ffi.register_ffi_target(f"portattn_{target}", handler, platform=xla_name)


def device_type(platform: str) -> int:
    """NVTEDeviceType of a platform of jax."""
    return core().nvte_cpu_device_type() if platform == "cpu" else DEVICE_TYPES[platform]


def like(aval: ShapedArray, shape: tuple[int, ...], dtype: Any) -> ShapedArray:
    """A result that varies over the mesh axes of shard_map that `aval` varies over."""
    mesh = aval.sharding.mesh
    if mesh.empty:
        return ShapedArray(shape, dtype)
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*[None] * len(shape)))
    return ShapedArray(shape, dtype, sharding=sharding, manual_axis_type=aval.manual_axis_type)


call_p = Primitive("portattn_call")
call_p.multiple_results = True


@call_p.def_abstract_eval
def _call_abstract(*operands: ShapedArray, results: tuple, **_: Any) -> list[ShapedArray]:
    return [like(operands[0], shape, dtype) for _, shape, dtype in results]


def _lower_call(
    ctx: mlir.LoweringRuleContext,
    *operands: Any,
    platform: str,
    direction: int,
    names: tuple[str, ...],
    results: tuple[tuple[str, tuple[int, ...], str], ...],
    packed_dim: int,
    ints: tuple[int, ...],
    floats: tuple[float, ...],
) -> Any:
    config = Config((*ints, ConfigAttr.DEVICE_TYPE.value, device_type(platform)), floats)
    workspace_bytes = config.workspace_bytes(direction)
    if workspace_bytes > 0:
        results = (*results, ("workspace", (workspace_bytes + WORKSPACE_ALIGNMENT,), "uint8"))
    structs = [jax.ShapeDtypeStruct(shape, dtype) for _, shape, dtype in results]
    target = "portattn_fused_attn_fwd" if direction == FORWARD else "portattn_fused_attn_bwd"

    def custom_call(*arrays: jax.Array) -> list[jax.Array]:
        outputs = jax.ffi.ffi_call(target, structs)(
            *arrays,
            operands=" ".join(names),
            results=" ".join(name for name, _, _ in results),
            packed_dim=np.int64(packed_dim),
            ints=np.asarray(ints, np.int64),
            floats=np.asarray(floats, np.float64),
        )
        return [array for array, (name, _, _) in zip(outputs, results, strict=True) if name != "workspace"]

    return mlir.lower_fun(custom_call, multiple_results=True)(ctx, *operands)


for _platform in PLATFORMS:
    mlir.register_lowering(call_p, functools.partial(_lower_call, platform=_platform), platform=_platform)


def make_cu_seqlens(
    descriptor: dict[str, jax.Array], rows: int, segments: int, row_tokens: tuple[int, int]
) -> dict[str, jax.Array]:
    """cu_seqlens_q, cu_seqlens_q_padded and the same of kv, from seqlens, seq_offsets and segment_ids of the sides."""
    sides = [side for side in ("q", "kv") if any(name.endswith(f"_{side}") for name in descriptor)]
    names = [name for side in sides for name in (f"cu_seqlens_{side}", f"cu_seqlens_{side}_padded")]
    struct = jax.ShapeDtypeStruct((rows * segments + 1,), jnp.int32)
    arrays = jax.ffi.ffi_call("portattn_cu_seqlens", [struct] * len(names))(
        *descriptor.values(),
        operands=" ".join(descriptor),
        results=" ".join(names),
        row_tokens_q=np.int64(row_tokens[0]),
        row_tokens_kv=np.int64(row_tokens[1]),
    )
    made = dict(zip(names, arrays, strict=True))
    return made if "kv" in sides else made | {name.replace("_q", "_kv"): made[name] for name in names}
