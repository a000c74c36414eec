// cu_seqlens and cu_seqlens_padded of a batch of rows with several segments each.
//
// SegmentRunsKernel, for segment ids: one block a row finds where each id's run starts and ends, and leaves length and
// start of segment s where CuSeqlensKernel will put its results: cu_seqlens[s + 1] and cu_seqlens_padded[s].
// CuSeqlensKernel sums the lengths: every block those of a chunk of segments, after finding for itself what comes
// before its chunk. Where ids left them in place of the results one block does it all, since it overwrites what it has
// read. An unused segment starts where those before it ended, so that starts never decrease.
#pragma once

#include "attn/params.h"
#include "device/launch.cuh"
#include "device/math.cuh"
#include "device/scan.cuh"
#include "thd/cu_seqlens.h"

namespace portattn {

struct SegmentRunsKernel {
  using Params = CuSeqlensParams;
  static constexpr int kThreads = kWarpSize == 1 ? 1 : 1024;
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
  struct Params {
    CuSeqlensParams sides;
    FastDivisor segments_q, segments_kv;
    int64_t chunk;  // segments of a block
  };
  static constexpr int kThreads = kWarpSize == 1 ? 1 : 1024;
  static constexpr int kMinBlocks = 1;
  static constexpr int kAhead = 16;  // segments of a thread on their way from memory
  static constexpr int kSmemBytes = kThreads / kWarpSize * static_cast<int>(sizeof(int32_t));

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const bool is_q = ctx.y == 0;
    const SegmentSide& side = is_q ? params.sides.q : params.sides.kv;
    if (side.cu_seqlens == nullptr) return;
    const FastDivisor& of_row = is_q ? params.segments_q : params.segments_kv;
    if (side.rows == 1) {
      sum(params, ctx, side, Segments<true>(side, of_row));
    } else {
      sum(params, ctx, side, Segments<false>(side, of_row));
    }
  }

 private:
  template <class Segments>
  static PA_DEVICE void sum(const Params& params, const BlockCtx& ctx, const SegmentSide& side,
                            const Segments& segments) {
    int32_t* scratch = reinterpret_cast<int32_t*>(ctx.smem);
    const int64_t count = side.rows * side.segments, chunk = side.segment_ids != nullptr ? count : params.chunk;
    const int64_t begin = ctx.x * chunk, end = min_of(begin + chunk, count);
    Totals before = 0 < begin && begin < end ? totals(segments, begin, scratch, ctx.tid) : Totals{0, 0};
    for (int64_t first = begin; first < end; first += kThreads) {
      place(side, segments, first + ctx.tid, end, scratch, ctx.tid, &before);
    }
    if (ctx.x != 0 || ctx.tid != 0) return;
    side.cu_seqlens[0] = 0;
    if (side.cu_seqlens_padded != nullptr) side.cu_seqlens_padded[count] = int32_t(side.rows * side.row_tokens);
  }

  // Of all segments before a place.
  struct Totals {
    int32_t tokens;
    int32_t end;  // the largest
  };

  struct Segment {
    int32_t start, length;

    PA_DEVICE int32_t end() const { return length > 0 ? start + length : 0; }
  };

  // Where the segments of a side are described: in lengths and starts, or by segment ids where the results will be. The
  // last block of a long batch divides for each segment, and that is half of its work, unless there is one row.
  template <bool OneRow>
  struct Segments {
    PA_DEVICE Segments(const SegmentSide& side, const FastDivisor& row_divisor)
        : lengths(side.lengths),
          starts(side.starts),
          stride_gap(static_cast<int32_t>(side.starts_stride - side.segments)),
          row_tokens(static_cast<int32_t>(side.row_tokens)),
          of_row(row_divisor) {
      if (side.segment_ids == nullptr) return;
      lengths = side.cu_seqlens + 1;
      starts = side.cu_seqlens_padded;
      stride_gap = 0;
    }

    // As it is described; nothing else waits for it.
    PA_DEVICE Segment load(int32_t index) const {
      return Segment{starts == nullptr ? 0 : starts[index + row(index) * stride_gap], lengths[index]};
    }

    // In the batch, and cut to its row.
    PA_DEVICE Segment cut(int32_t index, const Segment& described) const {
      const int32_t first = clamp(described.start, 0, row_tokens);
      return Segment{row(index) * row_tokens + first, clamp(described.length, 0, row_tokens - first)};
    }

    PA_DEVICE int32_t row(int32_t index) const { return OneRow ? 0 : fast_divide(index, of_row); }

    const int32_t *lengths, *starts;
    int32_t stride_gap;  // entries of a row of starts that belong to no segment
    int32_t row_tokens;
    FastDivisor of_row;
  };

  static PA_DEVICE BlockScan<int32_t> sums(int32_t value, int32_t* scratch, int tid) {
    return block_inclusive_scan<kThreads>(value, scratch, tid, [](int32_t a, int32_t b) { return a + b; });
  }

  static PA_DEVICE BlockScan<int32_t> maxima(int32_t value, int32_t* scratch, int tid) {
    return block_inclusive_scan<kThreads>(value, scratch, tid, [](int32_t a, int32_t b) { return max_of(a, b); });
  }

  // Of segments [0, count).
  template <class Segments>
  static PA_DEVICE Totals totals(const Segments& segments, int64_t count, int32_t* scratch, int tid) {
    Totals mine{0, 0};
    for (int64_t first = tid; first < count; first += kThreads * kAhead) {
      const int32_t begin = static_cast<int32_t>(first), last = static_cast<int32_t>(count - 1 - first);
      Segment described[kAhead];
      PA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        described[i] = i * kThreads <= last ? segments.load(begin + i * kThreads) : Segment{0, 0};
      }
      PA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const Segment segment = segments.cut(begin + i * kThreads, described[i]);
        mine.tokens += segment.length;
        mine.end = max_of(mine.end, segment.end());
      }
    }
    const int32_t tokens = sums(mine.tokens, scratch, tid).total;
    return Totals{tokens, maxima(mine.end, scratch, tid).total};
  }

  // Places segment `index` of each thread. All threads take part; those at `limit` and beyond write nothing.
  template <class Segments>
  static PA_DEVICE void place(const SegmentSide& side, const Segments& segments, int64_t index, int64_t limit,
                              int32_t* scratch, int tid, Totals* before) {
    const int32_t i = static_cast<int32_t>(index);
    const Segment segment = index < limit ? segments.cut(i, segments.load(i)) : Segment{0, 0};
    const BlockScan<int32_t> tokens = sums(segment.length, scratch, tid), ends = maxima(segment.end(), scratch, tid);
    if (index < limit) {
      const int32_t end = max_of(before->end, ends.inclusive);
      if (side.cu_seqlens_padded != nullptr) side.cu_seqlens_padded[index] = segment.length > 0 ? segment.start : end;
      side.cu_seqlens[index + 1] = before->tokens + tokens.inclusive;
    }
    *before = Totals{before->tokens + tokens.total, max_of(before->end, ends.total)};
  }
};

}  // namespace portattn
