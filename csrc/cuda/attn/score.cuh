// From q.k to scores: scale, bias, ALiBi, softcap, element mask; and back, for the backward.
//
// Scores leave in units of log 2 so that softmax is exp2. Without extras (has_extras(params) is false) raw products
// stay as they are, and exp_scale() carries scale * log2(e) into the exponent's multiply-add.
#pragma once

#include "attn/params.h"
#include "attn/visibility.cuh"
#include "device/sync.cuh"
#include "tile/reg_tile.cuh"

namespace portattn {

template <class T, bool Extras = true>
class Score {
 public:
  using Acc = AccOf<T>;

  PA_DEVICE Score(const AttnParams& p, int32_t seq, int32_t head, int32_t diagonal_offset)
      : scale_(static_cast<Acc>(p.attn_scale)) {
    if constexpr (Extras) extras_ = make_extras(p, seq, head, diagonal_offset);
  }

  PA_DEVICE Acc scale() const { return scale_; }

  // exponent = score * exp_scale() - max
  PA_DEVICE Acc exp_scale() const { return Extras ? Acc(1) : scale_ * Acc(kLog2e); }

  // Raw products -> scores in log 2 units, one pass a feature so that its test is made once. Bias and mask are read for
  // elements inside [0, rows) x [0, cols) only; what becomes of the others the element mask decides.
  template <class Tile>
  PA_DEVICE void transform(Tile& s, int lane, int32_t row0, int32_t col0, int32_t rows, int32_t cols) const {
    if constexpr (Extras) {
      if (extras_.kind == BiasKind::kPreScale) add_bias(s, lane, row0, col0, rows, cols);
      for_each(s, lane, [&](Acc& x, int, int, int) { x *= scale_; });
      if (extras_.kind == BiasKind::kPostScale) add_bias(s, lane, row0, col0, rows, cols);
      if (extras_.kind == BiasKind::kAlibi) add_alibi(s, lane, row0, col0);
      if (extras_.softcap > Acc(0)) {
        for_each(s, lane, [&](Acc& x, int, int, int) { x = extras_.softcap * fast_tanh(x / extras_.softcap); });
      }
      if (extras_.mask.data != nullptr) apply_mask(s, lane, row0, col0, rows, cols);
      for_each(s, lane, [&](Acc& x, int, int, int) { x *= Acc(kLog2e); });
    }
  }

  // g *= d score / d (score before the softcap) = 1 - tanh^2, from transformed scores; 0 where masked.
  template <class Tile>
  PA_DEVICE void multiply_softcap_slope(const Tile& s, Tile& g) const {
    if constexpr (Extras) {
      if (extras_.softcap <= Acc(0)) return;
      const Acc to_tanh = Acc(1) / (extras_.softcap * Acc(kLog2e));
      PA_UNROLL
      for (int r = 0; r < Tile::kRowSlots; ++r) {
        PA_UNROLL
        for (int c = 0; c < Tile::kColSlots; ++c) {
          const Acc t = s.at(r, c) * to_tanh;
          g.at(r, c) *= s.at(r, c) == neg_inf<Acc>() ? Acc(0) : Acc(1) - t * t;
        }
      }
    }
  }

 private:
  struct NoExtras {};
  struct WithExtras {
    BiasKind kind;
    Acc softcap, slope;
    int32_t offset;        // of the diagonal, for ALiBi
    ScoreView bias, mask;  // of this batch entry and head
    int32_t bias_rows, bias_cols;
  };

  static PA_DEVICE WithExtras make_extras(const AttnParams& p, int32_t seq, int32_t head, int32_t diagonal_offset) {
    WithExtras e;
    e.kind = p.bias_kind;
    e.softcap = static_cast<Acc>(p.softcap);
    e.slope = Acc(0);
    e.offset = diagonal_offset;
    // The gap before the first thd sequence is entry `batch` and has no slope.
    if (e.kind == BiasKind::kAlibi && seq < p.batch) {
      e.slope = static_cast<Acc>(p.alibi_slopes[seq * p.alibi_batch_stride + head]);
    }
    e.bias = p.bias;
    e.bias.data = static_cast<T*>(p.bias.data) + seq * p.bias.batch_stride + head * p.bias.head_stride;
    e.bias_rows = p.bias.row_stride == 0 ? INT32_MAX : p.bias_shape[2];
    e.bias_cols = p.bias.col_stride == 0 ? INT32_MAX : p.bias_shape[3];
    e.mask = p.mask;
    if (p.mask.data != nullptr) {
      e.mask.data = static_cast<uint8_t*>(p.mask.data) + seq * p.mask.batch_stride + head * p.mask.head_stride;
    }
    return e;
  }

  template <class Tile>
  PA_DEVICE void add_bias(Tile& s, int lane, int32_t row0, int32_t col0, int32_t rows, int32_t cols) const {
    const T* bias = static_cast<const T*>(extras_.bias.data);
    rows = min_of(rows, extras_.bias_rows);
    cols = min_of(cols, extras_.bias_cols);
    using Layout = typename Tile::Layout;
    const int32_t j0 = col0 + Layout::col(lane, 0);
    PA_UNROLL
    for (int slot = 0; slot < Tile::kRowSlots; ++slot) {
      const int32_t i = row0 + Layout::row(lane, slot);
      const int32_t row_cols = i < rows ? cols - j0 : 0;
      const T* row = opaque(bias + i * extras_.bias.row_stride + j0 * extras_.bias.col_stride);
      PA_UNROLL
      for (int c = 0; c < Tile::kColSlots; ++c) {
        const int32_t j = Layout::col(0, c) - Layout::col(0, 0);
        if (j < row_cols) s.at(slot, c) += to_float(row[j * extras_.bias.col_stride]);
      }
    }
  }

  template <class Tile>
  PA_DEVICE void add_alibi(Tile& s, int lane, int32_t row0, int32_t col0) const {
    for_each(s, lane, [&](Acc& x, int, int r, int c) {
      const int32_t distance = (col0 + c) - (row0 + r) - extras_.offset;
      x -= extras_.slope * static_cast<Acc>(distance < 0 ? -distance : distance);
    });
  }

  template <class Tile>
  PA_DEVICE void apply_mask(Tile& s, int lane, int32_t row0, int32_t col0, int32_t rows, int32_t cols) const {
    const uint8_t* mask = static_cast<const uint8_t*>(extras_.mask.data);
    for_each(s, lane, [&](Acc& x, int, int r, int c) {
      const int32_t i = row0 + r, j = col0 + c;
      if (i < rows && j < cols && mask[i * extras_.mask.row_stride + j * extras_.mask.col_stride] != 0)
        x = neg_inf<Acc>();
    });
  }

  Acc scale_;
  std::conditional_t<Extras, WithExtras, NoExtras> extras_;
};

// Sets to -inf what lies outside [range(row slot).lo, .hi) of its row's columns, counted from the lane's first column:
// the comparisons are then against constants.
template <class Tile, class Range>
PA_DEVICE void mask_outside(Tile& s, Range range) {
  using Layout = typename Tile::Layout;
  PA_UNROLL
  for (int slot = 0; slot < Tile::kRowSlots; ++slot) {
    const auto visible = range(slot);
    PA_UNROLL
    for (int c = 0; c < Tile::kColSlots; ++c) {
      const int32_t j = Layout::col(0, c) - Layout::col(0, 0);
      if (j < visible.lo || j >= visible.hi) s.at(slot, c) = neg_inf<typename Tile::Value>();
    }
  }
}

// Sets every element outside its row's key range to -inf: rows are queries from row0 on, columns keys from col0 on.
template <class Tile>
PA_DEVICE void mask_tile(Tile& s, int lane, const Visibility& v, int32_t row0, int32_t col0) {
  const int32_t first = col0 + Tile::Layout::col(lane, 0);
  mask_outside(s, [&](int slot) {
    const KeyRange keys = v.keys(row0 + Tile::Layout::row(lane, slot));
    return KeyRange{keys.lo - first, keys.hi - first};
  });
}

// The same of a transposed tile: rows are keys from key0 on, columns queries from row0 on. Of a triangular mask,
// queries past the sequence are left as they are.
template <bool Triangular = false, class Tile>
PA_DEVICE void mask_transposed_tile(Tile& s, int lane, const Visibility& v, int32_t key0, int32_t row0) {
  const int32_t first = row0 + Tile::Layout::col(lane, 0);
  mask_outside(s, [&](int slot) {
    const int32_t key = key0 + Tile::Layout::row(lane, slot);
    const QueryRange queries = Triangular ? queries_of_triangle(v, key) : queries_of(v, key);
    return QueryRange{queries.lo - first, Triangular ? INT32_MAX : queries.hi - first};
  });
}

}  // namespace portattn
