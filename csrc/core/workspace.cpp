// Lists the pieces of a call's scratch memory once; sizes and pointers both follow from the list.
#include "core/workspace.h"

#include "core/checked_math.h"
#include "core/status.h"
#include "cuda/thd/seq_plan.h"

namespace portattn {
namespace {

class LayoutBuilder {
 public:
  explicit LayoutBuilder(WorkspaceLayout* layout) : layout_(layout), total_(0) {
    for (int64_t& offset : layout_->offset) offset = -1;
  }

  void add(WorkspacePiece piece, CheckedSize elements, int64_t element_bytes) {
    layout_->offset[piece] = total_.value();
    total_ = (total_ + elements * element_bytes).round_up(kWorkspaceAlignment);
  }

  // The plan of one thd side; returns its tile capacity.
  int64_t add_plan(WorkspacePiece spans, int64_t batch, int64_t tokens, int32_t tile_rows) {
    add(spans, batch + 1, sizeof(SeqSpan));
    if (tile_rows == 0) return 0;
    const int64_t capacity = seq_plan_tile_capacity(tokens, batch, tile_rows);
    add(static_cast<WorkspacePiece>(spans + 1), capacity, sizeof(TileRef));
    add(static_cast<WorkspacePiece>(spans + 2), 1, sizeof(int32_t));
    return capacity;
  }

  CheckedSize total() const { return total_; }

 private:
  WorkspaceLayout* layout_;
  CheckedSize total_;
};

static_assert(kTilesQ == kSpansQ + 1 && kNumTilesQ == kSpansQ + 2, "add_plan() counts on the order of a side's pieces");
static_assert(kTilesKv == kSpansKv + 1 && kNumTilesKv == kSpansKv + 2, "likewise");

}  // namespace

NVTEStatus layout_workspace(const AttnConfig& config, NVTEDirection direction, const Tiling& tiling,
                            WorkspaceLayout* layout) {
  layout->tiling = tiling;
  LayoutBuilder builder(layout);
  int64_t capacity_q = 0, capacity_kv = 0;
  if (config.q_is_thd()) {
    capacity_q = builder.add_plan(kSpansQ, config.batch_size, config.total_tokens_q, tiling.tile_rows_q);
  }
  if (config.kv_is_thd()) {
    capacity_kv = builder.add_plan(kSpansKv, config.batch_size, config.total_tokens_kv, tiling.tile_rows_kv);
  }
  if (tiling.work_counter) builder.add(kNextItem, 1, sizeof(int32_t));
  if (direction == NVTE_BACKWARD) {
    const CheckedSize rows = CheckedSize(config.q_is_thd() ? 1 : config.batch_size) * config.rows_q();
    if (tiling.delta) builder.add(kDelta, rows * config.num_heads_q, sizeof(float));
    const CheckedSize groups = dq_scratch_groups(config.q_is_thd(), config.rows_q(), config.batch_size);
    if (tiling.row_stats) {
      const CheckedSize floats = groups * DqScratch::kRows * config.num_heads_q * 2 + RowStats::kSpareRows;
      builder.add(kRowStats, floats, sizeof(float));
    }
    if (tiling.dq_accum) {
      builder.add(kDqAccum, groups * DqScratch::kRows * config.num_heads_q * config.head_dim_qk, sizeof(float));
      if (tiling.dq_turns) builder.add(kDqTurns, groups * config.num_heads_q * DqScratch::kTurns, sizeof(int32_t));
    }
  }
  if (!builder.total().valid() || capacity_q > INT32_MAX || capacity_kv > INT32_MAX) {
    return fail(NVTE_INVALID_ARGUMENT, "the workspace of this config overflows: %s; reduce batch_size or the tokens",
                describe_config(config).c_str());
  }
  layout->tile_capacity_q = static_cast<int32_t>(capacity_q);
  layout->tile_capacity_kv = static_cast<int32_t>(capacity_kv);
  layout->total_bytes = builder.total().value();
  return NVTE_SUCCESS;
}

}  // namespace portattn
