// Debug mode (PORTATTN_DEBUG=1): tells on stderr of segments that are longer than max_segment_seqlen_q or _kv promises.
// Their results are right, but slow. Lengths are on the device, so telling waits for it; a stream that records a graph
// is left alone.
#pragma once

#include "core/arguments.h"

namespace portattn {

// 0, or the device runtime's error code.
int report_broken_promises(const AttnConfig& config, const Device& device, const SeqlenArguments& seqlens,
                           void* stream);

}  // namespace portattn
