// Where a row of queries lies in the dq scratch (attn/params.h).
#pragma once

#include "attn/seqlen_info.cuh"
#include "tile/arch_select.cuh"

namespace portattn {

// Head 0, column 0 of row `row` of the sequence; other columns are where the layout says, counted from there.
template <class Layout = Arch::ScratchLayout>
PA_DEVICE float* scratch_row(const AttnParams& p, int32_t seq, const SeqRows& rows, int64_t row) {
  return dq_scratch(p, seq, rows, 0) + row / DqScratch::kRows * dq_scratch_step(p) +
         Layout::offset(static_cast<int>(row % DqScratch::kRows), 0);
}

}  // namespace portattn
