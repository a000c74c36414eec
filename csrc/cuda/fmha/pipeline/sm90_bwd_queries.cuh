// A consumer's walk over the queries that see a tile of keys (Problem::Walk), with all that a step needs of it in
// registers: a load would wait, and with it the warp, for the products that were started before it.
#pragma once

#include "fmha/pipeline/sm90_bwd_tile.cuh"

namespace portattn::sm90 {

// Of a step: a query head and a tile of queries.
struct BwdPlace {
  int32_t head, m;
};

template <class Problem>
struct BwdAnyQueries {
  int32_t left;  // steps, this one included

  PA_DEVICE explicit BwdAnyQueries(const BwdWsTile& tile)
      : left(tile.steps),
        m_(Problem::Walk::first(tile)),
        first_(Problem::Walk::first(tile)),
        last_(Problem::Walk::last(tile)),
        plain_begin_(tile.plain_begin),
        plain_end_(tile.plain_end) {}

  // The query tile at hand.
  PA_DEVICE int32_t m(const BwdWsTile&) const { return m_; }
  // All of its queries see all keys.
  PA_DEVICE bool is_plain() const { return m_ >= plain_begin_ && m_ < plain_end_; }
  // It is known to lie in the sequence.
  PA_DEVICE bool is_whole() const { return is_plain(); }

  PA_DEVICE void advance(const BwdWsTile&) {
    m_ = Problem::Walk::next(m_, first_, last_);
    --left;
  }

 private:
  int32_t m_, first_, last_, plain_begin_, plain_end_;
};

// The same where a key is seen by all queries from one on, in three uniform registers: it counts, and reads the tile
// again for a new head and for what is not plain.
template <class Problem>
struct BwdTriangularQueries {
  int32_t left;

  PA_DEVICE explicit BwdTriangularQueries(const BwdWsTile& tile)
      : left(uniform(tile.steps)), head_(uniform(tile.first_head - 1)) {
    begin_head(tile);
  }

  PA_DEVICE int32_t m(const BwdWsTile& tile) const { return opaque(&tile)->m_end - 1 - left_of_head_; }
  // Scores, that is: queries past the sequence have an infinite lse.
  PA_DEVICE bool is_plain() const { return left_of_head_ <= last_plain_; }
  PA_DEVICE bool is_whole() const { return left_of_head_ > 0; }
  // Of the step before.
  PA_DEVICE BwdPlace before(const BwdWsTile& tile) const {
    const int32_t m = tile.m_end - 2 - left_of_head_;
    return m < tile.m_begin ? BwdPlace{head_ - 1, tile.m_end - 1} : BwdPlace{head_, m};
  }

  PA_DEVICE void advance(const BwdWsTile& tile) {
    --left;
    if (--left_of_head_ < 0) begin_head(*opaque(&tile));
  }

 private:
  PA_DEVICE void begin_head(const BwdWsTile& tile) {
    ++head_;
    left_of_head_ = uniform(tile.m_end - 1 - tile.m_begin);
    last_plain_ = uniform(tile.plain_begin < tile.plain_end ? tile.m_end - 1 - tile.plain_begin : -1);
  }

  int32_t left_of_head_;  // after the tile at hand
  int32_t last_plain_;    // with how many left they begin to be plain
  int32_t head_;
};

}  // namespace portattn::sm90
