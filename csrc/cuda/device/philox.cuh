// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
// https://doi.org/10.1145/2063384.2063405) and the dropout decision made from it.
//
// One call gives 8 decisions of 16 bits, so that P(drop) is a multiple of 1/65536 and every backend, target and tile
// shape drops the very same elements. Element (batch, head, i, j) takes
//   counter = {i, (j / 32) * 4 + (j / 2) % 4, batch * num_heads + head, offset}, key = seed, bits = word (j / 8) % 4,
//   half j % 2:
// the eight elements of one call are those that one lane holds in a 32-column strip of a 16x8 (mma.sync) accumulator,
// and half of those of a 32x32 (MFMA) one.
#pragma once

#include "device/math.cuh"

namespace portattn {

struct Philox4 {
  uint32_t word[4];
};

PA_HOST_DEVICE Philox4 philox(Philox4 counter, uint32_t key0, uint32_t key1) {
  PA_NO_UNROLL  // ten rounds of every draw of a tile would be a lot of code and of registers
      for (int round = 0; round < 10; ++round) {
    uint32_t hi0 = mul_high(0xD2511F53u, counter.word[0]), lo0 = 0xD2511F53u * counter.word[0];
    uint32_t hi1 = mul_high(0xCD9E8D57u, counter.word[2]), lo1 = 0xCD9E8D57u * counter.word[2];
    counter = Philox4{{hi1 ^ counter.word[1] ^ key0, lo1, hi0 ^ counter.word[3] ^ key1, lo0}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// Dropout of one (batch, head). Disabled when threshold is 0.
struct Dropout {
  uint32_t threshold = 0;  // an element is dropped when its 16 bits are below it
  float keep_scale = 1.f;  // 1 / (1 - threshold / 65536)
  uint32_t key0 = 0, key1 = 0, stream = 0, offset = 0;

  PA_HOST_DEVICE bool enabled() const { return threshold != 0; }

  PA_HOST_DEVICE Philox4 draw(int32_t row, int32_t col) const {
    uint32_t group = static_cast<uint32_t>(col / 32 * 4 + col / 2 % 4);
    return philox(Philox4{{static_cast<uint32_t>(row), group, stream, offset}}, key0, key1);
  }
  // Whether the element of a draw with this word (column / 8 % 4) and half (column % 2) stays.
  PA_HOST_DEVICE bool keep(const Philox4& bits, int32_t word, int32_t half) const {
    const uint32_t low = word & 1 ? bits.word[1] : bits.word[0], high = word & 1 ? bits.word[3] : bits.word[2];
    const uint32_t pair = word & 2 ? high : low;
    return ((half ? pair >> 16 : pair) & 0xffffu) >= threshold;
  }
};

// The quantised drop probability, in 1/65536.
PA_HOST_DEVICE uint32_t dropout_threshold(float probability) {
  return static_cast<uint32_t>(probability * 65536.f + 0.5f);
}

PA_HOST_DEVICE Dropout make_dropout(const AttnParams& p, int32_t batch, int32_t head) {
  Dropout d;
  if (p.dropout <= 0.f || p.rng_state == nullptr) return d;
  d.threshold = dropout_threshold(p.dropout);
  d.keep_scale = 65536.f / (65536.f - static_cast<float>(d.threshold));
  uint64_t seed = p.rng_state[0], offset = p.rng_state[1];
  d.key0 = static_cast<uint32_t>(seed);
  d.key1 = static_cast<uint32_t>(seed >> 32) ^ static_cast<uint32_t>(offset >> 32);
  d.stream = static_cast<uint32_t>(batch) * static_cast<uint32_t>(p.num_heads_q) + static_cast<uint32_t>(head);
  d.offset = static_cast<uint32_t>(offset);
  return d;
}

}  // namespace portattn
