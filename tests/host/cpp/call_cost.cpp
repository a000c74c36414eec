// Nanoseconds of one forward call through the C API on top of a device library that does nothing: packed sequences, the
// case with the most arguments. Usage: call_cost PATH_OF_FAKE_PLUGIN
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "portattn/portattn.h"

namespace {

alignas(256) char memory[1 << 16];

void check(NVTEStatus status) {
  if (status == NVTE_SUCCESS) return;
  std::fprintf(stderr, "%s\n", nvte_get_last_error());
  std::exit(1);
}

NVTETensor tensor(NVTEDType dtype, const std::vector<int64_t>& shape) {
  NVTETensor t = {sizeof(NVTETensor), memory, dtype, static_cast<int32_t>(shape.size()), {}, {}, NVTE_DEVICE_HOST, 0};
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0; stride *= shape[i]) {
    t.shape[i] = shape[i];
    t.strides[i] = stride;
  }
  return t;
}

NVTEFusedAttnConfig make_config() {
  NVTEFusedAttnConfig config;
  check(nvte_fused_attn_config_create(&config));
  const std::vector<std::pair<NVTEFusedAttnAttr, int64_t>> values = {{NVTE_ATTR_DTYPE, kNVTEFloat32},
                                                                     {NVTE_ATTR_Q_FORMAT, NVTE_THD},
                                                                     {NVTE_ATTR_KV_FORMAT, NVTE_THD},
                                                                     {NVTE_ATTR_BATCH_SIZE, 3},
                                                                     {NVTE_ATTR_NUM_HEADS_Q, 4},
                                                                     {NVTE_ATTR_NUM_HEADS_KV, 2},
                                                                     {NVTE_ATTR_HEAD_DIM_QK, 32},
                                                                     {NVTE_ATTR_HEAD_DIM_V, 32},
                                                                     {NVTE_ATTR_MAX_SEQLEN_Q, 0},
                                                                     {NVTE_ATTR_MAX_SEQLEN_KV, 0},
                                                                     {NVTE_ATTR_TOTAL_TOKENS_Q, 16},
                                                                     {NVTE_ATTR_TOTAL_TOKENS_KV, 16},
                                                                     {NVTE_ATTR_SOFTMAX_TYPE, NVTE_LEARNABLE_SOFTMAX},
                                                                     {NVTE_ATTR_IS_TRAINING, 1}};
  for (const auto& [attr, value] : values) check(nvte_fused_attn_config_set_int(config, attr, value));
  return config;
}

double nanoseconds_per_call() {
  const NVTEFusedAttnConfig config = make_config();
  const NVTETensor q = tensor(kNVTEFloat32, {16, 4, 32}), k = tensor(kNVTEFloat32, {16, 2, 32});
  const NVTETensor lse = tensor(kNVTEFloat32, {16, 4}), cu = tensor(kNVTEInt32, {4}), sink = tensor(kNVTEFloat32, {4});
  const NVTETensor workspace = tensor(kNVTEByte, {1 << 16});
  const NVTEFusedAttnInputs inputs = {sizeof(inputs), &q,  &k,  &k,  nullptr, &sink,  nullptr,
                                      nullptr,        &cu, &cu, &cu, &cu,     nullptr};
  const NVTEFusedAttnOutputs outputs = {sizeof(outputs), &q, &lse};
  constexpr int kCalls = 100000;
  double best = 1e9;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) check(nvte_fused_attn_fwd(config, &inputs, &outputs, &workspace, nullptr));
    const std::chrono::duration<double, std::nano> elapsed = std::chrono::steady_clock::now() - start;
    best = std::min(best, elapsed.count() / kCalls);
  }
  check(nvte_fused_attn_config_destroy(config));
  return best;
}

}  // namespace

int main(int, char** arguments) {
  void* plugin = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  reinterpret_cast<void (*)()>(dlsym(plugin, "fake_stop_recording"))();
  std::printf("%.0f\n", nanoseconds_per_call());
}
