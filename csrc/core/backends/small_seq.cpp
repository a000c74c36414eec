// Row: very many very short sequences, whole rows in registers. Considered when the config promises short segments.
#include "core/backends/table.h"

namespace portattn {
namespace {

bool enabled(const AttnConfig& config) { return config.has_segment_hint(); }

void refuse(const AttnConfig&, const Device&, Refusal* refusal) {
  refusal->because("not built: this version has no small_seq kernels");
}

}  // namespace

const BackendRow kSmallSeqRow = {NVTE_Backend_Small_Seq,
                                 "small_seq",
                                 "very many segments of a few tokens",
                                 0,
                                 "max_segment_seqlen_q or max_segment_seqlen_kv is given",
                                 enabled,
                                 refuse,
                                 nullptr,
                                 nullptr,
                                 nullptr};

}  // namespace portattn
