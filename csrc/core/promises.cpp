// Reads cu_seqlens back and compares each side's longest segment with the promise.
#include "core/promises.h"

#include <vector>

#include "core/log.h"
#include "core/text.h"

namespace portattn {
namespace {

struct Side {
  const char* name;
  const int32_t* cu_seqlens;  // on the device; null without lengths
  int64_t promised;           // 0 = nothing
};

void report_longest(const Side& side, const std::vector<int32_t>& cu_seqlens) {
  size_t longest = 0;
  int64_t length = 0;
  for (size_t segment = 0; segment + 1 < cu_seqlens.size(); ++segment) {
    const int64_t own = int64_t{cu_seqlens[segment + 1]} - cu_seqlens[segment];
    if (own > length) {
      longest = segment;
      length = own;
    }
  }
  if (length <= side.promised) return;
  log_line(format_text(
      "segment %zu has cu_seqlens_%s length %lld, but max_segment_seqlen_%s promises up to %lld: it is "
      "computed right, and slowly; raise the promise",
      longest, side.name, static_cast<long long>(length), side.name, static_cast<long long>(side.promised)));
}

}  // namespace

int report_broken_promises(const AttnConfig& config, const Device& device, const SeqlenArguments& seqlens,
                           void* stream) {
  const Side sides[] = {{"q", seqlens.cu_seqlens_q, config.max_segment_seqlen_q},
                        {"kv", seqlens.cu_seqlens_kv, config.max_segment_seqlen_kv}};
  std::vector<int32_t> host(static_cast<size_t>(config.batch_size) + 1);
  for (const Side& side : sides) {
    if (side.cu_seqlens == nullptr || side.promised == 0) continue;
    bool is_read = false;
    const int error = device.plugin->read_back(host.data(), side.cu_seqlens,
                                               static_cast<int64_t>(host.size() * sizeof(int32_t)), stream, &is_read);
    if (error != 0) return error;
    if (is_read) report_longest(side, host);
  }
  return 0;
}

}  // namespace portattn
