// Which keys a query sees. Causal, window, chunk and padding masks, alone or together, leave one interval
// [lo(i), hi(i)) of keys to query i, with lo and hi nondecreasing in i; tiles, loops and element masks follow from
// that.
//
//   diagonal d = i + offset,  offset = seqlen_kv - seqlen_q (bottom right) or 0
//   causal     j <= d
//   window     d - left <= j <= d + right
//   chunk C    floor(j / C) == floor(d / C)
#pragma once

#include "attn/params.h"
#include "device/math.cuh"

namespace portattn {

struct KeyRange {
  int32_t lo, hi;
};

class Visibility {
 public:
  PA_DEVICE Visibility(const AttnParams& p, int32_t seqlen_q, int32_t seqlen_kv)
      : seqlen_q_(seqlen_q),
        seqlen_kv_(seqlen_kv),
        offset_(p.bottom_right ? seqlen_kv - seqlen_q : 0),
        left_(p.window_left),
        right_(p.window_right),
        chunk_(p.chunk) {}

  PA_DEVICE int32_t seqlen_q() const { return seqlen_q_; }
  PA_DEVICE int32_t seqlen_kv() const { return seqlen_kv_; }
  PA_DEVICE int32_t offset() const { return offset_; }
  PA_DEVICE int32_t window_left() const { return left_; }
  PA_DEVICE int32_t window_right() const { return right_; }
  PA_DEVICE bool has_chunks() const { return chunk_.divisor > 0; }

  // Keys that query `row` sees; empty for rows at or past seqlen_q.
  PA_DEVICE KeyRange keys(int32_t row) const {
    const int32_t d = row + offset_;
    int32_t lo = 0, hi = seqlen_kv_;
    if (left_ >= 0) lo = max_of(lo, d - left_);
    if (right_ >= 0) hi = min_of(hi, d + 1 + right_);
    if (chunk_.divisor > 0) {
      const int32_t size = static_cast<int32_t>(chunk_.divisor);
      const int32_t first = d < 0 ? -size : fast_divide(d, chunk_) * size;
      lo = max_of(lo, first);
      hi = min_of(hi, first + size);
    }
    hi = row < seqlen_q_ ? hi : 0;
    return KeyRange{min_of(lo, seqlen_kv_), max_of(hi, min_of(lo, seqlen_kv_))};
  }

  // First row in [0, seqlen_q] whose keys satisfy a predicate that, once true, stays true.
  template <class Predicate>
  PA_DEVICE int32_t first_row(Predicate holds) const {
    int32_t lo = 0, hi = seqlen_q_;
    while (lo < hi) {
      const int32_t mid = lo + (hi - lo) / 2;
      if (holds(keys(mid))) {
        hi = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }

 private:
  int32_t seqlen_q_, seqlen_kv_, offset_, left_, right_;
  FastDivisor chunk_;
};

// Key blocks that a tile of query rows touches, and which of them need no element mask.
struct BlockRange {
  int32_t begin, end;            // blocks [begin, end)
  int32_t full_begin, full_end;  // every row of the tile sees every key of blocks [full_begin, full_end)

  PA_DEVICE bool is_full(int32_t block) const { return block >= full_begin && block < full_end; }
};

// For query rows [row0, row0 + rows), rows >= 1 and all below seqlen_q.
PA_DEVICE BlockRange key_blocks(const Visibility& v, int32_t row0, int32_t rows, int32_t block) {
  const KeyRange first = v.keys(row0), last = v.keys(row0 + rows - 1);
  BlockRange r;
  r.begin = first.lo / block;
  r.end = last.hi > first.lo ? ceil_div(last.hi, block) : r.begin;
  r.full_begin = ceil_div(last.lo, block);
  r.full_end = first.hi / block;
  return r;
}

// Bounds on queries, for blocks that own keys. With chunks they are searched, since lo and hi never decrease; without,
// they are the mask solved for the row.

// First row in [0, seqlen_q] from which on hi(row) > key.
PA_DEVICE int32_t first_row_reaching(const Visibility& v, int32_t key) {
  if (!v.has_chunks()) return v.window_right() < 0 ? 0 : clamp(key - v.offset() - v.window_right(), 0, v.seqlen_q());
  return v.first_row([&](KeyRange keys) { return keys.hi > key; });
}

// First row in [0, seqlen_q] from which on lo(row) >= key, key >= 1.
PA_DEVICE int32_t first_row_past(const Visibility& v, int32_t key) {
  if (!v.has_chunks()) {
    return v.window_left() < 0 ? v.seqlen_q() : clamp(key - v.offset() + v.window_left(), 0, v.seqlen_q());
  }
  return v.first_row([&](KeyRange keys) { return keys.lo >= key; });
}

// Whether a key is seen by all queries from one on: without a mask, and under causal ones.
PA_HOST_DEVICE bool is_triangular(const AttnParams& p) {
  return p.window_left < 0 && p.chunk.divisor == 0 && p.mask.data == nullptr;
}

// Tiles of `block` queries that see any key of [first, end): an interval as well. For neighbouring tiles of keys
// neither end ever decreases, so that the tiles of keys which one tile of queries sees are neighbours, too.
struct QueryTiles {
  int32_t begin, end;
};
PA_DEVICE QueryTiles query_tiles(const Visibility& v, int32_t first, int32_t end, int32_t block) {
  const int32_t row_begin = first_row_reaching(v, first), row_end = first_row_past(v, end);
  if (row_begin >= row_end) return QueryTiles{0, 0};
  return QueryTiles{row_begin / block, ceil_div(row_end, block)};
}

// Queries that see a key: an interval as well. Empty for keys at or past seqlen_kv.
struct QueryRange {
  int32_t lo, hi;
};
PA_DEVICE QueryRange queries_of(const Visibility& v, int32_t key) {
  if (key >= v.seqlen_kv()) return QueryRange{0, 0};
  return QueryRange{first_row_reaching(v, key), first_row_past(v, key + 1)};
}
// The same of a triangular mask, in fewer registers: also past the sequence's queries.
PA_DEVICE QueryRange queries_of_triangle(const Visibility& v, int32_t key) {
  const int32_t lo = v.window_right() < 0 ? 0 : key - v.offset() - v.window_right();
  return QueryRange{key < v.seqlen_kv() ? lo : INT32_MAX, INT32_MAX};
}

}  // namespace portattn
