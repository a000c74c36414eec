// How row kernels share out a [token, head, dim] tensor: a block takes a few tokens that follow each other. Where they
// lie is found once and left in shared memory, so that their rows cost neither a division nor a search.
#pragma once

#include "attn/token_rows.cuh"
#include "device/launch.cuh"
#include "device/sync.cuh"

namespace portattn {

template <int Threads, int Tokens>
struct TokenBlock {
  static int64_t count(const SeqSide& side, int32_t batch) {
    return ceil_div<int64_t>(num_token_rows(side, batch), Tokens);
  }

  // Calls place(t, row, sequence) for each token of the block, by one thread each; the sequence is -1 for padding.
  // Returns how many there are. All threads take part, and see what the others have placed.
  template <class Place>
  static PA_DEVICE int place(const SeqSide& side, int32_t batch, int32_t block, int tid, Place place) {
    const int64_t first = int64_t{block} * Tokens;
    const int count = static_cast<int>(min_of<int64_t>(Tokens, num_token_rows(side, batch) - first));
    for (int t = tid; t < count; t += Threads) {
      const TokenRow row(side, first + t);
      place(t, row, row.sequence(side, batch));
    }
    block_sync();  // all tokens are placed
    return count;
  }
};

}  // namespace portattn
