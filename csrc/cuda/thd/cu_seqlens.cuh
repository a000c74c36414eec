// cu_seqlens and cu_seqlens_padded of a batch of rows with several segments each.
//
// SegmentRunsKernel, for segment ids: one block a row finds where each id's run starts and ends, and leaves length and
// start of segment s where CuSeqlensKernel will put its results: cu_seqlens[s + 1] and cu_seqlens_padded[s].
// CuSeqlensKernel: one block a side sums the lengths. Each thread reads and writes the same places, so it may work in
// place. An unused segment starts where the one before it ended, so that starts never decrease.
#pragma once

#include "device/launch.cuh"
#include "device/math.cuh"
#include "device/scan.cuh"
#include "thd/cu_seqlens.h"

namespace portattn {

struct SegmentRunsKernel {
  using Params = CuSeqlensParams;
  static constexpr int kThreads = kWarpSize == 1 ? 1 : 256;
  static constexpr int kMinBlocks = 1;

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const SegmentSide& side = ctx.y == 0 ? params.q : params.kv;
    if (side.segment_ids == nullptr || ctx.x >= side.rows) return;
    const int64_t first = int64_t{ctx.x} * side.segments;
    int32_t* ends = side.cu_seqlens + first + 1;  // then lengths
    int32_t* starts = side.cu_seqlens_padded + first;
    for (int32_t s = ctx.tid; s < side.segments; s += kThreads) starts[s] = ends[s] = 0;
    block_sync();  // every segment is empty before a run is written; all threads wait for that
    find_runs(side, ctx, starts, ends);
    block_sync();  // starts and ends are complete; all threads wait for them
    for (int32_t s = ctx.tid; s < side.segments; s += kThreads) ends[s] = max_of(ends[s] - starts[s], 0);
  }

 private:
  static PA_DEVICE void find_runs(const SegmentSide& side, const BlockCtx& ctx, int32_t* starts, int32_t* ends) {
    const int32_t* ids = side.segment_ids + ctx.x * side.row_tokens;
    for (int64_t token = ctx.tid; token < side.row_tokens; token += kThreads) {
      const int32_t segment = segment_of(ids, token, side);
      if (segment < 0 || segment >= side.segments) continue;
      if (segment != segment_of(ids, token - 1, side)) starts[segment] = static_cast<int32_t>(token);
      if (segment != segment_of(ids, token + 1, side)) ends[segment] = static_cast<int32_t>(token + 1);
    }
  }

  // -1 for padding and outside the row.
  static PA_DEVICE int32_t segment_of(const int32_t* ids, int64_t token, const SegmentSide& side) {
    if (token < 0 || token >= side.row_tokens || ids[token] <= 0) return -1;
    return side.segments == 1 ? 0 : ids[token] - 1;
  }
};

struct CuSeqlensKernel {
  using Params = CuSeqlensParams;
  static constexpr int kThreads = kWarpSize == 1 ? 1 : 1024;
  static constexpr int kMinBlocks = 1;
  static constexpr int kItems = 8;  // segments of a thread in one step of the walk

  struct Shared {
    int32_t scan[kThreads / kWarpSize];
    int32_t ends[kThreads];  // largest end of all segments up to each thread's last
  };

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const SegmentSide& side = ctx.x == 0 ? params.q : params.kv;
    if (side.cu_seqlens == nullptr) return;
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem);
    const int64_t count = side.rows * side.segments;
    Totals before{0, 0};
    for (int64_t first = 0; first < count; first += kThreads * kItems) {
      step(side, count, first + ctx.tid * kItems, ctx.tid, shared, &before);
    }
    if (ctx.tid != 0) return;
    side.cu_seqlens[0] = 0;
    if (side.cu_seqlens_padded == nullptr) return;
    side.cu_seqlens_padded[count] = static_cast<int32_t>(side.rows * side.row_tokens);
  }

 private:
  // Of all segments before a place.
  struct Totals {
    int32_t tokens;
    int32_t end;  // the largest
  };

  // Segments first .. first + kItems - 1.
  static PA_DEVICE void step(const SegmentSide& side, int64_t count, int64_t first, int tid, Shared& shared,
                             Totals* before) {
    int32_t length[kItems], start[kItems];
    Totals mine{0, 0};
    PA_UNROLL
    for (int i = 0; i < kItems; ++i) {
      read(side, count, first + i, &length[i], &start[i]);
      mine.tokens += length[i];
      if (length[i] > 0) mine.end = max_of(mine.end, start[i] + length[i]);
    }
    const auto sum = [](int32_t a, int32_t b) { return a + b; };
    const auto larger = [](int32_t a, int32_t b) { return max_of(a, b); };
    const auto tokens = block_inclusive_scan<kThreads>(mine.tokens, shared.scan, tid, sum);
    const auto ends = block_inclusive_scan<kThreads>(mine.end, shared.scan, tid, larger);
    shared.ends[tid] = ends.inclusive;
    block_sync();  // every thread's end is written; its successor waits for it
    Totals here{before->tokens + tokens.inclusive - mine.tokens,
                tid > 0 ? max_of(before->end, shared.ends[tid - 1]) : before->end};
    block_sync();  // every end is read; the next step may overwrite it
    *before = Totals{before->tokens + tokens.total, max_of(before->end, ends.total)};
    PA_UNROLL
    for (int i = 0; i < kItems; ++i) {
      if (first + i >= count) continue;
      if (side.cu_seqlens_padded != nullptr) side.cu_seqlens_padded[first + i] = length[i] > 0 ? start[i] : here.end;
      if (length[i] > 0) here.end = max_of(here.end, start[i] + length[i]);
      side.cu_seqlens[first + i + 1] = here.tokens += length[i];
    }
  }

  // Length and start in the batch of one segment, cut to its row; {0, 0} beyond the last.
  static PA_DEVICE void read(const SegmentSide& side, int64_t count, int64_t index, int32_t* length, int32_t* start) {
    *length = *start = 0;
    if (index >= count) return;
    const int64_t row = index / side.segments, row_tokens = side.row_tokens;
    int64_t first = 0, tokens;
    if (side.segment_ids != nullptr) {
      first = side.cu_seqlens_padded[index];
      tokens = side.cu_seqlens[index + 1];
    } else {
      tokens = side.lengths[index];
      if (side.starts != nullptr) first = side.starts[row * side.starts_stride + index % side.segments];
    }
    first = clamp<int64_t>(first, 0, row_tokens);
    *length = static_cast<int32_t>(clamp<int64_t>(tokens, 0, row_tokens - first));
    *start = static_cast<int32_t>(row * row_tokens + first);
  }
};

}  // namespace portattn
