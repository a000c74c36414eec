"""Which attention probabilities dropout drops: a replica of csrc/cuda/device/philox.cuh in numpy.

Philox4x32-10 (https://doi.org/10.1145/2063384.2063405). Element (stream, i, j), stream = batch * num_heads + head,
takes counter {i, j / 32 * 4 + j / 2 % 4, stream, offset}, word j / 8 % 4, half j % 2, and is dropped when those 16
bits are below p * 65536.
"""

from __future__ import annotations

import numpy as np
import torch

LOW = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)


def philox(counter: list[np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """Philox4x32-10 on arrays of uint64 that hold 32-bit words."""
    x0, x1, x2, x3 = counter
    key0, key1 = key
    for _ in range(10):
        product0, product1 = x0 * np.uint64(0xD2511F53), x2 * np.uint64(0xCD9E8D57)
        x0, x1 = (product1 >> SHIFT) ^ x1 ^ np.uint64(key0), product1 & LOW
        x2, x3 = (product0 >> SHIFT) ^ x3 ^ np.uint64(key1), product0 & LOW
        key0, key1 = (key0 + 0x9E3779B9) % 2**32, (key1 + 0xBB67AE85) % 2**32
    return [x0, x1, x2, x3]


def dropout_threshold(probability: float) -> int:
    """The drop probability in 1/65536, rounded as the kernels do."""
    return int(np.float32(probability) * np.float32(65536) + np.float32(0.5))


def dropout_factor(probability: float, seed: int, offset: int, stream: int, len_q: int, len_kv: int) -> torch.Tensor:
    """[len_q, len_kv]: 0 where dropped, 1 / (1 - p) where kept, for one (batch, head)."""
    threshold = dropout_threshold(probability)
    seed, offset = seed % 2**64, offset % 2**64
    i, j = np.meshgrid(np.arange(len_q, dtype=np.uint64), np.arange(len_kv, dtype=np.uint64), indexing="ij")
    counter = [i, j // 32 * 4 + j // 2 % 4, np.full_like(i, stream), np.full_like(i, offset % 2**32)]
    words = np.stack(philox(counter, (seed % 2**32, (seed >> 32) ^ (offset >> 32))))
    word = np.take_along_axis(words, (j // 8 % 4)[None].astype(np.int64), axis=0)[0]
    bits = word >> (j % 2 * 16) & np.uint64(0xFFFF)
    return torch.from_numpy(bits >= threshold) * (65536 / (65536 - threshold))
