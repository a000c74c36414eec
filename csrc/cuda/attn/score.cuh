// From q.k to scores: scale, bias, ALiBi, softcap, element mask; and back, for the backward.
//
// Scores leave in units of log 2 so that softmax is exp2. A "plain" head (scale only, positive) skips the transform:
// its raw products stay as they are, and exp_scale() carries scale * log2(e) into the exponent's multiply-add.
#pragma once

#include "attn/params.h"
#include "attn/visibility.cuh"
#include "tile/reg_tile.cuh"

namespace portattn {

template <class T>
class Score {
 public:
  using Acc = AccOf<T>;

  PA_DEVICE Score(const AttnParams& p, int32_t seq, int32_t head, int64_t diagonal_offset)
      : kind_(p.bias_kind), scale_(static_cast<Acc>(p.attn_scale)), softcap_(static_cast<Acc>(p.softcap)) {
    plain_ = kind_ == BiasKind::kNone && p.softcap == 0.f && p.mask.data == nullptr && p.attn_scale > 0.f;
    if (plain_) return;
    if (kind_ == BiasKind::kAlibi) {
      slope_ = static_cast<Acc>(p.alibi_slopes[seq * p.alibi_batch_stride + head]);
      offset_ = diagonal_offset;
    } else if (kind_ != BiasKind::kNone) {
      bias_ = p.bias;
      bias_rows_ = p.bias.row_stride == 0 ? INT32_MAX : p.dbias_shape[2];
      bias_cols_ = p.bias.col_stride == 0 ? INT32_MAX : p.dbias_shape[3];
      bias_.data = static_cast<T*>(bias_.data) + seq * bias_.batch_stride + head * bias_.head_stride;
    }
    if (p.mask.data != nullptr) {
      mask_ = p.mask;
      mask_.data = static_cast<uint8_t*>(mask_.data) + seq * mask_.batch_stride + head * mask_.head_stride;
    }
  }

  PA_DEVICE bool plain() const { return plain_; }
  PA_DEVICE Acc scale() const { return scale_; }

  // exponent = score * exp_scale() - max
  PA_DEVICE Acc exp_scale() const { return plain_ ? scale_ * Acc(kLog2e) : Acc(1); }

  // Raw products -> scores in log 2 units. Elements outside [0, rows) x [0, cols) are left finite or not, the element
  // mask removes them; no memory outside the bias or mask is read for them.
  template <class Tile>
  PA_DEVICE void transform(Tile& s, int lane, int32_t row0, int32_t col0, int32_t rows, int32_t cols) const {
    if (plain_) return;
    for_each(s, lane, [&](Acc& x, int, int r, int c) {
      const int32_t i = row0 + r, j = col0 + c;
      x = value(x, i, j, i < rows && j < cols);
    });
  }

  // d score / d (q.k * scale) of a transformed score (log 2 units): the softcap's 1 - tanh^2.
  PA_DEVICE Acc softcap_slope(Acc score_log2) const {
    const Acc t = score_log2 / (softcap_ * Acc(kLog2e));
    return Acc(1) - t * t;
  }
  PA_DEVICE bool has_softcap() const { return softcap_ > Acc(0); }

 private:
  PA_DEVICE Acc value(Acc x, int32_t i, int32_t j, bool inside) const {
    Acc bias = Acc(0);
    if ((kind_ == BiasKind::kPreScale || kind_ == BiasKind::kPostScale) && inside && i < bias_rows_ &&
        j < bias_cols_) {
      bias = to_float(static_cast<const T*>(bias_.data)[i * bias_.row_stride + j * bias_.col_stride]);
    }
    if (kind_ == BiasKind::kPreScale) x += bias;
    x *= scale_;
    if (kind_ == BiasKind::kPostScale) x += bias;
    if (kind_ == BiasKind::kAlibi) {
      const int64_t distance = static_cast<int64_t>(j) - i - offset_;
      x -= slope_ * static_cast<Acc>(distance < 0 ? -distance : distance);
    }
    if (softcap_ > Acc(0)) x = softcap_ * fast_tanh(x / softcap_);
    if (mask_.data != nullptr && inside &&
        static_cast<const uint8_t*>(mask_.data)[i * mask_.row_stride + j * mask_.col_stride] != 0) {
      x = neg_inf<Acc>();
    }
    return x * Acc(kLog2e);
  }

  bool plain_;
  BiasKind kind_;
  Acc scale_, softcap_, slope_ = 0;
  int64_t offset_ = 0;
  ScoreView bias_, mask_;
  int32_t bias_rows_ = 0, bias_cols_ = 0;
};

// Sets every element outside its row's key range to -inf.
template <class Tile>
PA_DEVICE void mask_tile(Tile& s, int lane, const Visibility& v, int32_t row0, int32_t col0) {
  using Acc = typename Tile::Value;
  PA_UNROLL
  for (int slot = 0; slot < Tile::kRowSlots; ++slot) {
    const KeyRange keys = v.keys(row0 + Tile::Layout::row(lane, slot));
    PA_UNROLL
    for (int c = 0; c < Tile::kColSlots; ++c) {
      const int32_t j = col0 + Tile::Layout::col(lane, c);
      s.at(slot, c) = j >= keys.lo && j < keys.hi ? s.at(slot, c) : neg_inf<Acc>();
    }
  }
}

}  // namespace portattn
