// The backend table. Rows are tried in order; the first enabled one without a reason against it serves the config.
// A row is data and functions; the reasons of all rows can be told (nvte_explain_fused_attn_backend).
#pragma once

#include <string>
#include <vector>

#include "core/config.h"
#include "core/plugin.h"
#include "core/workspace.h"

namespace portattn {

// Collects why a row cannot serve a config. Texts are built only for a caller that wants to read them.
class Refusal {
 public:
  explicit Refusal(std::vector<std::string>* reasons) : reasons_(reasons) {}

  // A sentence with the actual and the allowed value.
  [[gnu::format(printf, 2, 3)]] void because(const char* format, ...);

  bool refused() const { return refused_; }

 private:
  std::vector<std::string>* reasons_;
  bool refused_ = false;
};

// What a row launches with.
struct Launch {
  const Device& device;
  DType dtype;
  const AttnParams& params;
  void* stream;
};

// The kernel that a call gets, the rows of the tiles that it wants planned, at least those of the row's `tiling`, and
// whether a backward adds dq up in dq_accum, and how, and reads row_stats.
struct KernelChoice {
  const char* name;
  int32_t tile_rows_q;
  int32_t tile_rows_kv;
  bool dq_accum = false;
  DqUse dq_use = {};
  bool row_stats = false;
};

struct BackendRow {
  NVTE_Fused_Attn_Backend id;
  const char* name;
  const char* summary;      // for the support matrix
  int32_t alignment_bytes;  // of base pointers and strides of q, k, v, o and their gradients; 0 = the element's own
  // Whether the row is tried without being asked for by name; `tried_when` says what that takes.
  const char* tried_when;
  bool (*enabled)(const AttnConfig& config);
  void (*refuse)(const AttnConfig& config, const Device& device, Refusal* refusal);
  // The rest is null for a row whose kernels are not built: it always refuses.
  Tiling (*tiling)(const AttnConfig& config, const Device& device, NVTEDirection direction);
  // 0 or the device runtime's error. The backward is given delta, as `tiling` asks, and dq_accum as delta leaves it, if
  // the chosen kernel adds to it, and leaves dq, dk, dv.
  int (*forward)(const Launch& launch);
  int (*backward)(const Launch& launch);
  // Null for a row with one kernel a direction.
  KernelChoice (*choose)(const Launch& launch, NVTEDirection direction) = nullptr;
};

extern const BackendRow kScoreModJitRow;
extern const BackendRow kSmallSeqRow;
extern const BackendRow kFusedVarlenRow;
extern const BackendRow kUnfusedRow;

// In order of preference.
constexpr int kNumBackendRows = 4;
extern const BackendRow* const kBackendRows[kNumBackendRows];

// The row that `config` gets on `device`. NVTE_NOT_SUPPORTED with every reason when there is none, or when strict and
// the row is not the first enabled one; a fallback that is allowed is logged. `config` has passed check_config().
NVTEStatus choose_backend(const AttnConfig& config, const Device& device, const BackendRow** row);

// One line a row: chosen, available, refused and why. `device` may be null: `no_device` says why there is none.
std::string explain_backends(const AttnConfig& config, const Device* device, const char* no_device);

}  // namespace portattn
