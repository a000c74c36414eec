// A device library without kernels: it writes down, as text, every call that the core makes through the plugin table.
// FAKE_TARGET names the target that it pretends to be; it has two devices.
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "plugin.h"

#ifndef FAKE_TARGET
#define FAKE_TARGET "host"
#endif

namespace {

using namespace portattn;

std::string record;
bool recording = true;
int32_t current_device = 0;
std::string failing_call;

[[gnu::format(printf, 1, 2)]] void note(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  record += text;
}

uintptr_t address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

void note_view(const char* name, const TensorView& view) {
  note(" %s=%zu,%lld,%lld,%lld", name, size_t(address(view.data)), static_cast<long long>(view.batch_stride),
       static_cast<long long>(view.token_stride), static_cast<long long>(view.head_stride));
}

void note_view(const char* name, const ScoreView& view) {
  note(" %s=%zu,%lld,%lld,%lld,%lld", name, size_t(address(view.data)), static_cast<long long>(view.batch_stride),
       static_cast<long long>(view.head_stride), static_cast<long long>(view.row_stride),
       static_cast<long long>(view.col_stride));
}

void note_side(const char* name, const SeqSide& side) {
  note(" %s=%d,%lld,%zu,%zu,%zu,%zu", name, side.is_thd, static_cast<long long>(side.seqlen),
       size_t(address(side.cu_seqlens)), size_t(address(side.plan.spans)), size_t(address(side.plan.tiles)),
       size_t(address(side.plan.num_tiles)));
}

int finish(const char* call) { return failing_call == call ? 77 : 0; }

int note_call(const char* call, const AttnParams& p) {
  if (!recording) return 0;
  note("%s device=%d", call, current_device);
  note_view("q", p.q);
  note_view("k", p.k);
  note_view("v", p.v);
  note_view("o", p.o);
  note_view("lse", p.lse);
  note_view("d_o", p.d_o);
  note_view("dq", p.dq);
  note_view("dk", p.dk);
  note_view("dv", p.dv);
  note_view("delta", p.delta);
  note(" dq_accum=%zu next_item=%zu batch=%d heads=%d,%d dims=%d,%d", size_t(address(p.dq_accum.data)),
       size_t(address(p.next_item)), p.batch, p.num_heads_q, p.num_heads_kv, p.head_dim_qk, p.head_dim_v);
  note_side("q_side", p.q_side);
  note_side("kv_side", p.kv_side);
  note(" bottom_right=%d window=%d,%d chunk=%u", p.bottom_right, p.window_left, p.window_right, p.chunk.divisor);
  note_view("mask", p.mask);
  note(" scale=%.9g softcap=%.9g bias_kind=%d", double(p.attn_scale), double(p.softcap), int(p.bias_kind));
  note_view("bias", p.bias);
  note_view("dbias", p.dbias);
  note(" bias_shape=%d,%d,%d,%d alibi=%zu,%lld", p.bias_shape[0], p.bias_shape[1], p.bias_shape[2], p.bias_shape[3],
       size_t(address(p.alibi_slopes)), static_cast<long long>(p.alibi_batch_stride));
  note(" sink=%d,%zu,%zu dropout=%.9g,%zu deterministic=%d", p.has_sink, size_t(address(p.softmax_offset)),
       size_t(address(p.d_softmax_offset)), double(p.dropout), size_t(address(p.rng_state)), p.deterministic);
  note(" dq_turns=%zu row_stats=%zu", size_t(address(p.dq_accum.turns)), size_t(address(p.row_stats.data)));
  note(" stores_first=%d writes_dq=%d\n", p.dq_accum.use.stores_first, p.dq_accum.use.writes_dq);
  return finish(call);
}

void note_request(const char* name, const SidePlanRequest& r) {
  note(" %s=%zu,%zu,%lld,%d,%d,%zu,%zu,%zu", name, size_t(address(r.cu_seqlens)), size_t(address(r.cu_seqlens_padded)),
       static_cast<long long>(r.total_tokens), r.tile_rows, r.tile_capacity, size_t(address(r.spans)),
       size_t(address(r.tiles)), size_t(address(r.num_tiles)));
}

void note_segments(const char* name, const SegmentSide& s) {
  note(" %s=%zu,%zu,%zu,%lld,%lld,%lld,%d,%zu,%zu", name, size_t(address(s.lengths)), size_t(address(s.starts)),
       size_t(address(s.segment_ids)), static_cast<long long>(s.rows), static_cast<long long>(s.row_tokens),
       static_cast<long long>(s.starts_stride), s.segments, size_t(address(s.cu_seqlens)),
       size_t(address(s.cu_seqlens_padded)));
}

int fake_cu_seqlens(const CuSeqlensParams& params, void*) {
  if (!recording) return 0;
  note("cu_seqlens device=%d", current_device);
  note_segments("q", params.q);
  note_segments("kv", params.kv);
  note("\n");
  return finish("cu_seqlens");
}

int fake_seq_plan(const SeqPlanParams& params, void*) {
  if (!recording) return 0;
  note("seq_plan batch=%d", params.batch);
  note_request("q", params.q);
  note_request("kv", params.kv);
  note(" next_item=%zu\n", size_t(address(params.next_item)));
  return finish("seq_plan");
}

int fmha_fwd(const AttnParams& p, void*) { return note_call("fmha_fwd", p); }
int fmha_bwd(const AttnParams& p, void*) { return note_call("fmha_bwd", p); }
int fmha_bwd_dq(const AttnParams& p, void*) { return note_call("fmha_bwd_dq", p); }
int fmha_bwd_ordered(const AttnParams& p, void*) { return note_call("fmha_bwd_ordered", p); }
int fmha_bwd_whole(const AttnParams& p, void*) { return note_call("fmha_bwd_whole", p); }
bool takes_one_kv_head(const AttnParams& p) { return p.num_heads_kv == 1 && (p.deterministic || p.window_left == 2); }
int unfused_fwd(const AttnParams& p, DType, void*) { return note_call("unfused_fwd", p); }
int unfused_bwd(const AttnParams& p, DType, void*) { return note_call("unfused_bwd", p); }
int delta(const AttnParams& p, DType, void*) { return note_call("delta", p); }
int convert_dq(const AttnParams& p, DType, void*) { return note_call("convert_dq", p); }
int bias_grad(const AttnParams& p, DType, void*) { return note_call("bias_grad", p); }
int sink_grad(const AttnParams& p, void*) { return note_call("sink_grad", p); }
int small_seq_fwd(const AttnParams& p, DType, void*) { return note_call("small_seq_fwd", p); }
int small_seq_bwd(const AttnParams& p, DType, void*) { return note_call("small_seq_bwd", p); }

int count_devices() { return 2; }
int device_info(int32_t, DeviceInfo* info) {
  *info = DeviceInfo{"fake device", 800, 1};
  return 0;
}
int set_device(int32_t device, int32_t* previous) {
  *previous = current_device;
  current_device = device;
  return finish("set_device");
}
const char* error_text(int) { return "told to fail"; }
int read_back(void* host, const void* device, int64_t bytes, void*, bool* is_read) {
  std::memcpy(host, device, static_cast<size_t>(bytes));
  *is_read = true;
  return finish("read_back");
}

// One kernel for each step, a backward for deterministic calls of one kv head, which reads row stats, and one for a
// window of three keys, which writes dq. No two of their tile sizes are equal.
const FmhaKernel kFwd = {"fake_fwd", 48, nullptr, fmha_fwd};
const FmhaKernel kBwd = {"fake_bwd", 96, nullptr, fmha_bwd};
const FmhaKernel kBwdDq = {"fake_bwd_dq", 24, nullptr, fmha_bwd_dq};
const FmhaKernel* const kForward[] = {&kFwd};
// Of an instance that does not take every call: the table must not ask it for more.
bool takes_none(const AttnParams&) { return false; }
const FmhaKernel kFwdPartial = {"fake_fwd_partial", 48, takes_none, fmha_fwd};
const FmhaKernel* const kPartialForward[] = {&kFwdPartial};
const FmhaKernel kBwdOrdered = {"fake_bwd_ordered", 112, takes_one_kv_head, fmha_bwd_ordered, true, {true, true}};
bool takes_window_of_three(const AttnParams& p) { return p.window_left == 3; }
const FmhaKernel kBwdWhole = {"fake_bwd_whole", 1 << 20, takes_window_of_three,
                              fmha_bwd_whole,   true,    {false, true, false, true}};
const FmhaBackward kBackward[] = {{&kBwdWhole, nullptr}, {&kBwdOrdered, nullptr}, {&kBwd, &kBwdDq}};

// Without instances of its own: one for every dtype, up to head dim 128.
std::vector<FmhaInstance> instances;

const FmhaInstance* find_fmha(DType dtype, int32_t head_dim_qk, int32_t head_dim_v, int32_t) {
  static const FmhaInstance kAny = {"fake", DType::kBFloat16, 128, 128, kForward, 1, kBackward, 3};
  if (instances.empty()) return head_dim_qk <= 128 && head_dim_v <= 128 ? &kAny : nullptr;
  for (const FmhaInstance& i : instances) {
    if (i.dtype == dtype && i.head_dim_qk >= head_dim_qk && i.head_dim_v >= head_dim_v) return &i;
  }
  return nullptr;
}

const Plugin kPlugin = {kPluginAbi, FAKE_TARGET, "fake",          count_devices, device_info,  set_device,  error_text,
                        read_back,  find_fmha,   fake_cu_seqlens, fake_seq_plan, unfused_fwd,  unfused_bwd, delta,
                        convert_dq, bias_grad,   sink_grad,       small_seq_fwd, small_seq_bwd};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT const portattn::Plugin* portattn_plugin() { return &kPlugin; }
EXPORT const char* fake_record() { return record.c_str(); }
EXPORT void fake_stop_recording() { recording = false; }
EXPORT void fake_clear() { record.clear(); }
EXPORT void fake_add_instance(int dtype, int head_dim_qk, int head_dim_v, int takes_every_call) {
  const auto* forward = takes_every_call != 0 ? kForward : kPartialForward;
  instances.push_back({"fake", static_cast<DType>(dtype), head_dim_qk, head_dim_v, forward, 1, kBackward, 2});
}
EXPORT int fake_current_device() { return current_device; }
EXPORT void fake_fail(const char* call) { failing_call = call; }
