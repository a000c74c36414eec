// A unit in tiles of shared memory, multiplied by the matrix unit: for units with so many pairs of queries and keys
// that lanes and shuffles do not keep up with memory. A block takes one unit with few warps, 16 queries each, so that
// nobody waits long for anybody; the many blocks of a multiprocessor have rows on their way at a time.
#pragma once

#include "small_seq/unit.cuh"
#include "tile/ops.cuh"

namespace portattn {

// Tiles of Rows queries or Rows keys with rows of HeadDim elements: of q, k, v and their gradients.
template <class T, int Rows, int HeadDim>
class UnitTiles {
 public:
  static constexpr int kWarps = kWarpSize == 1 ? 1 : Rows / 16;
  static constexpr int kThreads = kWarps * kWarpSize;
  static constexpr int kWarpRows = Rows / kWarps;
  static_assert(!Arch::kStagesOperand<T>, "p goes from accumulators to the next product");

  using Tile = SmemTile<T, Rows, HeadDim>;
  using SmemScores = SmemTile<T, Rows, Rows>;
  using ScoreTile = AccTile<float, kWarpRows, Rows>;  // a warp's queries x all keys
  using Values = RowValues<ScoreTile>;

  // Vectors of a row that each lane of a warp owns where a unit does not fit the tiles.
  static constexpr int kVecs = ceil_div(HeadDim / Vec16<T>::kSize, kWarpSize);

  // The query of each row of a score tile that a lane holds.
  struct Queries {
    UnitQuery at[ScoreTile::kRowSlots];
  };

  const int lane, warp;
  const int warp_row;  // of the warp's first query in a tile

  PA_DEVICE UnitTiles(const SmallSeqParams& params, const SmallSeqUnit& unit, int tid)
      : lane(tid % kWarpSize),
        warp(tid / kWarpSize),
        warp_row(warp * kWarpRows),
        params_(params),
        unit_(unit),
        tid_(tid) {}

  // All threads of the unit arrive; shared memory written before is visible after.
  static PA_DEVICE void sync() {
    if constexpr (kWarps == 1) {
      warp_sync();
    } else {
      block_sync();
    }
  }

  // Of the tile of queries [first, first + Rows).
  PA_DEVICE Queries queries(int32_t first) const {
    Queries queries;
    PA_UNROLL
    for (int s = 0; s < ScoreTile::kRowSlots; ++s) {
      queries.at[s] = UnitQuery(params_, unit_, first + warp_row + ScoreTile::Layout::row(lane, s));
    }
    return queries;
  }

  PA_DEVICE void load_keys(const Tile& tile, const TensorView& view, int32_t dim) const {
    load_tile_async<kThreads>(tile, row_pointer<const T>(view, unit_.seq, unit_.kv, 0, unit_.head_kv),
                              view.token_stride, unit_.kv.len, dim, tid_);
  }

  PA_DEVICE void store_keys(const Tile& tile, const TensorView& view, int32_t dim) const {
    store_tile<kThreads>(row_pointer<T>(view, unit_.seq, unit_.kv, 0, unit_.head_kv), view.token_stride, tile,
                         unit_.kv.len, unit_.kv.len, dim, tid_);
  }

  PA_DEVICE void load_queries(const Tile& tile, const TensorView& view, int32_t dim, int32_t first) const {
    const QueryRows<const T> rows{params_, unit_, view, first};
    if (rows.are_even()) {
      load_tile_async<kThreads>(tile, rows.begin(), rows.stride(), unit_.num_queries - first, dim, tid_);
    } else {
      gather_tile_async<kThreads>(tile, rows, dim, tid_);
    }
  }

  PA_DEVICE void store_queries(const Tile& tile, const TensorView& view, int32_t dim, int32_t first) const {
    const QueryRows<T> rows{params_, unit_, view, first};
    if (rows.are_even()) {
      const int32_t count = min_of(unit_.num_queries - first, Rows);
      store_tile<kThreads>(rows.begin(), rows.stride(), tile, count, count, dim, tid_);
    } else {
      scatter_tile<kThreads>(rows, tile, dim, tid_);
    }
  }

 private:
  // Where queries from `first` on lie.
  template <class Element>
  struct QueryRows {
    const SmallSeqParams& params;
    const SmallSeqUnit& unit;
    const TensorView& view;
    int32_t first;

    // Null past the last.
    PA_DEVICE Element* operator()(int r) const {
      const UnitQuery query(params, unit, first + r);
      return query.exists ? row_pointer<Element>(view, unit.seq, unit.q, query.row, query.head) : nullptr;
    }

    // Tokens of one head, or heads of one token, are equally far apart: no address takes a division.
    PA_DEVICE bool are_even() const { return params.group.divisor == 1 || unit.q.len == 1; }
    PA_DEVICE int64_t stride() const { return params.group.divisor == 1 ? view.token_stride : view.head_stride; }
    PA_DEVICE Element* begin() const {
      const int32_t head = unit.head_kv * static_cast<int32_t>(params.group.divisor);
      return row_pointer<Element>(view, unit.seq, unit.q, 0, head) + first * stride();
    }
  };

  const SmallSeqParams& params_;
  const SmallSeqUnit& unit_;
  const int tid_;
};

}  // namespace portattn
