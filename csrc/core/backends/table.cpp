// Chooses a row and tells why.
#include "core/backends/table.h"

#include <mutex>
#include <unordered_set>

#include "core/log.h"
#include "core/status.h"
#include "core/text.h"

namespace portattn {

const BackendRow* const kBackendRows[kNumBackendRows] = {&kScoreModJitRow, &kSmallSeqRow, &kFusedVarlenRow,
                                                         &kUnfusedRow};

void Refusal::because(const char* format, ...) {
  refused_ = true;
  if (reasons_ == nullptr) return;
  va_list arguments;
  va_start(arguments, format);
  reasons_->push_back(format_text_v(format, arguments));
  va_end(arguments);
}

namespace {

// A row is tried when BACKEND names it, or when BACKEND names none and the row needs no asking.
bool is_tried(const AttnConfig& config, const BackendRow& row) {
  return config.backend == NVTE_No_Backend ? row.enabled(config) : config.backend == row.id;
}

bool refuses(const BackendRow& row, const AttnConfig& config, const Device& device) {
  Refusal refusal(nullptr);
  row.refuse(config, device, &refusal);
  return refusal.refused();
}

std::string join(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

std::string reasons_against(const BackendRow& row, const AttnConfig& config, const Device& device) {
  std::vector<std::string> reasons;
  Refusal refusal(&reasons);
  row.refuse(config, device, &refusal);
  return join(reasons);
}

// "fused_varlen refused: <reason>; <reason>. unfused refused: ..." of the rows that were tried before `end`.
std::string refused_before(const BackendRow* end, const AttnConfig& config, const Device& device) {
  std::string text;
  for (const BackendRow* row : kBackendRows) {
    if (row == end) break;
    if (!is_tried(config, *row)) continue;
    text += format_text("%s%s refused: %s", text.empty() ? "" : ". ", row->name,
                        reasons_against(*row, config, device).c_str());
  }
  return text;
}

// Packed batches bring a new config with every step, so a fallback is told once for each reason, not for each config.
bool is_first_time(const std::string& message) {
  static std::mutex mutex;
  static std::unordered_set<std::string> told;
  const std::lock_guard<std::mutex> lock(mutex);
  return told.insert(message).second;
}

NVTEStatus report_fallback(const AttnConfig& config, const Device& device, const BackendRow& row) {
  if (config.strict == 0 && !log_enabled(LogLevel::kFallbacks)) return NVTE_SUCCESS;
  const std::string reasons = refused_before(&row, config, device);
  if (config.strict != 0) {
    return fail(NVTE_NOT_SUPPORTED, "strict is 1 and the choice would be the fallback %s: %s. Config: %s", row.name,
                reasons.c_str(), describe_config(config).c_str());
  }
  const std::string message = format_text("%s chosen as a fallback: %s", row.name, reasons.c_str());
  if (is_first_time(message) || log_enabled(LogLevel::kChoices)) {
    log_line(message + ". Config: " + describe_config(config));
  }
  return NVTE_SUCCESS;
}

// What the rows before the one in question came to.
struct Progress {
  bool has_choice = false;
  bool has_refusal = false;
};

std::string explain_row(const BackendRow& row, const AttnConfig& config, const Device* device, const char* no_device,
                        Progress* progress) {
  if (!is_tried(config, row)) {
    if (config.backend != NVTE_No_Backend) return "not tried: the config asks for another backend by name";
    return std::string("not tried: only when ") + row.tried_when;
  }
  if (device == nullptr) return std::string("refused: ") + no_device;
  if (refuses(row, config, *device)) {
    progress->has_refusal = true;
    return "refused: " + reasons_against(row, config, *device);
  }
  if (progress->has_choice) return "available";
  if (progress->has_refusal && config.strict != 0) return "refused: strict is 1 and this would be a fallback";
  progress->has_choice = true;
  return "chosen";
}

}  // namespace

NVTEStatus choose_backend(const AttnConfig& config, const Device& device, const BackendRow** chosen) {
  bool is_fallback = false;
  for (const BackendRow* row : kBackendRows) {
    if (!is_tried(config, *row)) continue;
    if (!refuses(*row, config, device)) {
      if (is_fallback) PA_RETURN_IF_ERROR(report_fallback(config, device, *row));
      if (!is_fallback && log_enabled(LogLevel::kChoices)) {
        log_line(format_text("%s chosen. Config: %s", row->name, describe_config(config).c_str()));
      }
      *chosen = row;
      return NVTE_SUCCESS;
    }
    is_fallback = true;
  }
  return fail(NVTE_NOT_SUPPORTED, "no backend serves this config: %s. Config: %s",
              refused_before(nullptr, config, device).c_str(), describe_config(config).c_str());
}

std::string explain_backends(const AttnConfig& config, const Device* device, const char* no_device) {
  std::string text;
  Progress progress;
  for (const BackendRow* row : kBackendRows) {
    if (!text.empty()) text += '\n';
    text += std::string(row->name) + ": " + explain_row(*row, config, device, no_device, &progress);
  }
  return text;
}

}  // namespace portattn
