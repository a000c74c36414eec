"""Cross-attention over very many tiny segments, trained in JAX: python examples/jax_small_seq.py

Each of thousands of sets holds 2 to 16 items and one question. An item has a name and a payload; the question is a name
with noise, the answer the payload of the item that bears it. The sets lie packed in rows, one query and up to 16 keys
each, and one call serves them all: no set is padded, no length is read on the host. A linear map makes queries and keys
of the names; training finds the one that the noise leaves.
"""

from __future__ import annotations

import argparse
import math
import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from portattn_jax import (
    AttnBiasType,
    AttnMaskType,
    AttnSoftmaxType,
    QKVLayout,
    SequenceDescriptor,
    explain,
    fused_attn,
)

HEADS, DIM, MAX_ITEMS = 4, 64, 16
NOISY = DIM // 2  # coordinates of a question that carry noise, and nothing else


class Batch(NamedTuple):
    question: jax.Array  # [rows, sets, dim]
    names: jax.Array  # [rows, sets * MAX_ITEMS, dim]
    payloads: jax.Array  # [rows, sets * MAX_ITEMS, HEADS, dim]
    answer: jax.Array  # [rows, sets, HEADS, dim]
    segments: SequenceDescriptor


def make_batch(key: jax.Array, rows: int, sets: int) -> Batch:
    names_key, payload_key, count_key, pick_key, noise_key = jax.random.split(key, 5)
    count = jax.random.randint(count_key, (rows, sets), 2, MAX_ITEMS + 1)
    names = jax.random.normal(names_key, (rows, sets, MAX_ITEMS, DIM))
    payloads = jax.random.normal(payload_key, (rows, sets, MAX_ITEMS, HEADS, DIM))
    pick = jax.random.randint(pick_key, (rows, sets), 0, count)
    noise = 3 * jax.random.normal(noise_key, (rows, sets, DIM)) * (jnp.arange(DIM) < NOISY)
    question = jnp.take_along_axis(names, pick[..., None, None], 2)[:, :, 0] + noise
    answer = jnp.take_along_axis(payloads, pick[..., None, None, None], 2)[:, :, 0]
    starts = jnp.arange(sets + 1)
    segments = SequenceDescriptor.from_seqlens_and_offsets(
        (jnp.ones_like(count), count),
        tuple(jnp.broadcast_to(starts * width, (rows, sets + 1)) for width in (1, MAX_ITEMS)),
        max_segment_seqlen_q=1,  # the promise that chooses the small_seq backend
        max_segment_seqlen_kv=MAX_ITEMS,
    )
    flat = (rows, sets * MAX_ITEMS)
    return Batch(question, names.reshape(*flat, DIM), payloads.reshape(*flat, HEADS, DIM), answer, segments)


def call_of(weights: dict[str, jax.Array], batch: Batch, dtype: jnp.dtype) -> dict:
    """The arguments of fused_attn."""
    q, k = (jnp.einsum("bsd,dhe->bshe", tokens, weights["names"]) for tokens in (batch.question, batch.names))
    return dict(
        qkv=tuple(array.astype(dtype) for array in (q, k, batch.payloads)),
        bias=None,
        sequence_descriptor=batch.segments,
        seed=None,
        attn_bias_type=AttnBiasType.NO_BIAS,
        attn_mask_type=AttnMaskType.PADDING_MASK,
        qkv_layout=QKVLayout.THD_THD_THD,
        softmax_type=AttnSoftmaxType.VANILLA_SOFTMAX,
        scaling_factor=1 / math.sqrt(DIM),
        dropout_probability=0.0,
        is_training=True,
    )


@partial(jax.jit, static_argnames=("dtype", "rate"))
def train_step(
    weights: dict[str, jax.Array], batch: Batch, dtype: jnp.dtype, rate: float
) -> tuple[dict[str, jax.Array], jax.Array]:
    """One step of gradient descent on the mean squared error; the loss before it."""

    def loss(weights: dict[str, jax.Array]) -> jax.Array:
        found = fused_attn(**call_of(weights, batch, dtype)).astype(jnp.float32)
        return jnp.mean((found - batch.answer) ** 2)

    value, gradient = jax.value_and_grad(loss)(weights)
    return jax.tree.map(lambda weight, slope: weight - rate * slope, weights, gradient), value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--sets", type=int, default=128, help="of a row")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dtype = jnp.dtype(options.dtype)
    key, weights_key = jax.random.split(jax.random.key(options.seed))
    weights = {"names": jax.random.normal(weights_key, (DIM, HEADS, DIM)) / DIM}
    batches = [make_batch(batch_key, options.rows, options.sets) for batch_key in jax.random.split(key, 8)]
    print(explain(**call_of(weights, batches[0], dtype)))
    print(f"{options.rows * options.sets} sets a step on {jax.devices()[0]}")
    start, done = time.perf_counter(), 0
    for step in range(options.steps):
        weights, loss = train_step(weights, batches[step % len(batches)], dtype, 30.0)
        if step % 10 == 0 or step == options.steps - 1:
            value, now = float(loss), time.perf_counter()  # the loss is here when all steps before it are done
            print(f"step {step:3d}  loss {value:.3f}  {1e3 * (now - start) / (step + 1 - done):.1f} ms a step")
            start, done = now, step + 1


if __name__ == "__main__":
    main()
