// Sequence planner: cu_seqlens of any content -> spans that never overlap or leave the buffer, and a flat tile list.
//
// The buffer is a row of batch + 1 slots: the gap before the first sequence, then the sequences. Sequence i starts at
//   start'[i] = max(start[i], max over j < i of end[j]),   end[j] = min(start[j] + len[j], total)
// and its slot reaches to start'[i + 1], so offsets that decrease, overlap or leave the buffer give empty or cut
// sequences, and valid ones are left as they are. One block walks the slots of a side a chunk of kThreads at a time: a
// max scan places the spans, a sum scan places their tiles, then all threads fill the tiles of the chunk. Tiles of long
// sequences come first, as long work started early keeps the end of a launch short, unless all are short or there are
// more than a chunk has. A tile may be a whole sequence: then it is by length that one is long.
#pragma once

#include "device/launch.cuh"
#include "device/math.cuh"
#include "device/scan.cuh"
#include "thd/seq_plan.h"

namespace portattn {

// What cu_seqlens claim, each sequence alone cut to the buffer and to kMaxSeqlen.
class ClaimedSpans {
 public:
  PA_DEVICE explicit ClaimedSpans(const SidePlanRequest& side)
      : cu_(side.cu_seqlens),
        starts_(side.cu_seqlens_padded != nullptr ? side.cu_seqlens_padded : side.cu_seqlens),
        total_(side.total_tokens) {}

  PA_DEVICE int32_t start(int64_t i) const { return static_cast<int32_t>(clamp<int64_t>(starts_[i], 0, total_)); }

  PA_DEVICE int32_t end(int64_t i) const {
    const int64_t len = clamp<int64_t>(int64_t{cu_[i + 1]} - cu_[i], 0, kMaxSeqlen);
    return static_cast<int32_t>(min_of<int64_t>(start(i) + len, total_));
  }

 private:
  const int32_t* cu_;
  const int32_t* starts_;
  int64_t total_;
};

struct SeqPlanKernel {
  using Params = SeqPlanParams;
  static constexpr int kThreads = kWarpSize == 1 ? 1 : 1024;
  static constexpr int kMinBlocks = 1;
  static constexpr int32_t kFewTiles = 8;    // sequences of so few end nearly together, whichever comes first
  static constexpr int32_t kTileRows = 256;  // a larger tile counts as several
  static constexpr int32_t kFewRows = 512;   // of a sequence that is one tile: likewise

  struct Shared {
    int32_t scan[kThreads / kWarpSize];
    alignas(16) int32_t key[kThreads];  // of each slot of the chunk: the larger, the earlier it comes
    int32_t count[kThreads];            // of its tiles
    int32_t slot[kThreads];             // of the chunk, in the order in which they come
    bool has_long;                      // whether one of them has more than kFewTiles
    int32_t first_tile[kThreads + 1];   // of each slot as they come, counted from the chunk's first tile
  };

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    let_next_kernel_start();
    zero_next_item(params, ctx);
    const SidePlanRequest& side = ctx.x == 0 ? params.q : params.kv;
    if (side.spans == nullptr) return;
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem);
    if (ctx.tid == 0) shared.has_long = false;  // all see it after the first scan
    const int64_t slots = int64_t{params.batch} + 1;
    int32_t end_before = 0;  // largest end of the sequences of all chunks so far
    int32_t tiles_before = 0;
    for (int64_t first = 0; first < slots; first += kThreads) {
      const SeqSpan span = place_span(side, params.batch, first + ctx.tid, shared.scan, ctx.tid, &end_before);
      if (side.tile_rows > 0) fill_tiles(side, params.batch, first, span, shared, ctx.tid, &tiles_before);
    }
    if (side.tile_rows > 0 && ctx.tid == 0) *side.num_tiles = tiles_before;
  }

  // By one thread of the grid.
  static PA_DEVICE void zero_next_item(const SeqPlanParams& params, const BlockCtx& ctx) {
    if (params.next_item != nullptr && ctx.x == 0 && ctx.y == 0 && ctx.tid == 0) *params.next_item = 0;
  }

  // Slot 0 is the gap; slot n is sequence n - 1.
  static PA_DEVICE int32_t seq_of_slot(int64_t slot, int32_t batch) {
    return slot == 0 ? batch : static_cast<int32_t>(slot - 1);
  }

  // Writes and returns the span of one slot; {0, 0, 0} beyond the last. All threads call it, with consecutive slots;
  // *end_before is the largest end of the sequences before those, and afterwards of these too.
  static PA_DEVICE SeqSpan place_span(const SidePlanRequest& side, int32_t batch, int64_t slot, int32_t* scan, int tid,
                                      int32_t* end_before) {
    const ClaimedSpans claimed(side);
    const int64_t seq = slot - 1;
    const auto larger = [](int32_t a, int32_t b) { return max_of(a, b); };
    const int32_t previous_end = seq >= 1 && seq <= batch ? claimed.end(seq - 1) : 0;
    const auto ends = block_inclusive_scan<kThreads>(previous_end, scan, tid, larger);
    const int32_t barrier = max_of(*end_before, ends.inclusive);
    *end_before = max_of(*end_before, ends.total);
    if (slot > batch) return {0, 0, 0};

    SeqSpan span{0, 0, 0};
    int32_t end = 0;
    if (seq >= 0) {
      end = claimed.end(seq);
      span.start = max_of(claimed.start(seq), barrier);
      span.len = max_of(end - span.start, 0);
    }
    const int32_t total = static_cast<int32_t>(side.total_tokens);
    const int32_t next = slot == batch ? total : max_of(claimed.start(seq + 1), max_of(barrier, end));
    span.slot_len = next - span.start;
    side.spans[seq_of_slot(slot, batch)] = span;
    return span;
  }

 private:
  // Appends the tiles of a chunk of slots. The last block of a sequence comes first: under a causal mask it is the
  // longest.
  static PA_DEVICE void fill_tiles(const SidePlanRequest& side, int32_t batch, int64_t first_slot, SeqSpan span,
                                   Shared& shared, int tid, int32_t* tiles_before) {
    shared.count[tid] = tiles_of(span, side.tile_rows);
    shared.slot[tid] = tid;
    if constexpr (kThreads > 1) {
      const int32_t length = tiles_of(span, min_of(side.tile_rows, kTileRows));
      const int32_t few = side.tile_rows > kTileRows ? kFewRows / kTileRows : kFewTiles;
      if (batch < kThreads) sort_slots(shared, batch + 1, tid, length, few);
    }
    block_sync();  // slot is complete
    const int32_t count = shared.count[shared.slot[tid]];
    const auto sum = [](int32_t a, int32_t b) { return a + b; };
    const auto counts = block_inclusive_scan<kThreads>(count, shared.scan, tid, sum);
    shared.first_tile[tid] = counts.inclusive - count;
    if (tid == 0) shared.first_tile[kThreads] = counts.total;
    block_sync();  // first_tile is complete; all threads wait for it
    for (int32_t t = tid; t < counts.total; t += kThreads) {
      const int at = last_before(shared.first_tile, t);
      const int32_t block = shared.first_tile[at + 1] - 1 - t;
      side.tiles[*tiles_before + t] = TileRef{seq_of_slot(first_slot + shared.slot[at], batch), block};
    }
    *tiles_before += counts.total;
    block_sync();  // all threads have read slot and first_tile; the next chunk may overwrite them
  }

  static PA_DEVICE int32_t tiles_of(SeqSpan span, int32_t rows) {
    return span.slot_len / rows + (span.slot_len % rows != 0);
  }

  // If any is longer than `few`: the first num_slots slots by length, the longest first, equal ones as they are.
  // `length` is that of this thread's slot.
  static PA_DEVICE void sort_slots(Shared& shared, int num_slots, int tid, int32_t length, int32_t few) {
    constexpr int kStep = 16;
    static_assert(kThreads == 1 || kThreads % kStep == 0, "keys are read so many at a time");
    const int32_t key = tid < num_slots ? (min_of(length, INT32_MAX / kThreads - 1) + 1) * kThreads - tid : 0;
    shared.key[tid] = key;
    if (length > few) shared.has_long = true;
    block_sync();  // key and has_long are complete
    if (!shared.has_long) return;
    int larger = 0;
    PA_NO_UNROLL
    for (int first = 0; first < num_slots; first += kStep) {
      PA_UNROLL
      for (int i = 0; i < kStep; ++i) larger += shared.key[first + i] > key;
    }
    if (tid < num_slots) shared.slot[larger] = tid;
  }

  // The last place whose first tile is at or before t.
  static PA_DEVICE int last_before(const int32_t* first_tile, int32_t t) {
    int lo = 0, hi = kThreads;
    while (hi - lo > 1) {
      const int mid = (lo + hi) / 2;
      (first_tile[mid] <= t ? lo : hi) = mid;
    }
    return lo;
  }
};

}  // namespace portattn
