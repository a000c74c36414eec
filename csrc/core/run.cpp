// The order of launches, the same for every backend:
//   forward   sequence plan -> kernels of the row
//   backward  sequence plan -> delta, which readies dq_accum -> kernels of the row -> bias gradient -> sink gradient
#include "core/run.h"

#include "core/arguments.h"
#include "core/env.h"
#include "core/log.h"
#include "core/promises.h"
#include "core/status.h"
#include "core/text.h"

namespace portattn {
namespace {

NVTEStatus check_launch(const ResolvedConfig& resolved, int error, const char* step) {
  if (error == 0) return NVTE_SUCCESS;
  return fail(NVTE_DEVICE_ERROR, "launching %s of %s on %s device %d failed: %s (error %d)", step, resolved.row->name,
              resolved.device.plugin->target, resolved.device.index, resolved.device.plugin->error_text(error), error);
}

SidePlanRequest plan_request(const int32_t* cu_seqlens, const int32_t* cu_seqlens_padded, int64_t tokens,
                             int32_t tile_rows, int32_t tile_capacity) {
  SidePlanRequest request;
  request.cu_seqlens = cu_seqlens;
  request.cu_seqlens_padded = cu_seqlens_padded;
  request.total_tokens = tokens;
  request.tile_rows = tile_rows;
  request.tile_capacity = tile_capacity;
  return request;
}

// Places one thd side's plan in the workspace, for the planner to write and for the kernels to read.
void place_plan(const WorkspaceLayout& layout, void* workspace, WorkspacePiece spans, WorkspacePiece tiles,
                WorkspacePiece num_tiles, SidePlanRequest* request, SidePlan* plan) {
  plan->spans = request->spans = layout.carve<SeqSpan>(workspace, spans);
  plan->tiles = request->tiles = layout.carve<TileRef>(workspace, tiles);
  plan->num_tiles = request->num_tiles = layout.carve<int32_t>(workspace, num_tiles);
}

// The kernel that a call gets and the tiles that it wants, of which the workspace has room for as many.
KernelChoice choose_kernel(const Launch& launch, const ResolvedConfig& resolved, NVTEDirection direction) {
  if (resolved.row->choose != nullptr) return resolved.row->choose(launch, direction);
  const Tiling& tiling = resolved.layout(direction).tiling;
  return KernelChoice{resolved.row->name, tiling.tile_rows_q, tiling.tile_rows_kv, tiling.dq_accum};
}

NVTEStatus plan_sequences(const Launch& launch, const ResolvedConfig& resolved, NVTEDirection direction,
                          const KernelChoice& choice, const SeqlenArguments& seqlens, void* workspace,
                          AttnParams* params) {
  if (!params->q_side.is_thd && !params->kv_side.is_thd) return NVTE_SUCCESS;
  const WorkspaceLayout& layout = resolved.layout(direction);
  SeqPlanParams plan;
  plan.batch = params->batch;
  if (params->q_side.is_thd) {
    plan.q = plan_request(seqlens.cu_seqlens_q, seqlens.cu_seqlens_q_padded, params->q_side.seqlen, choice.tile_rows_q,
                          layout.tile_capacity_q);
    place_plan(layout, workspace, kSpansQ, kTilesQ, kNumTilesQ, &plan.q, &params->q_side.plan);
  }
  if (params->kv_side.is_thd) {
    plan.kv = plan_request(seqlens.cu_seqlens_kv, seqlens.cu_seqlens_kv_padded, params->kv_side.seqlen,
                           choice.tile_rows_kv, layout.tile_capacity_kv);
    place_plan(layout, workspace, kSpansKv, kTilesKv, kNumTilesKv, &plan.kv, &params->kv_side.plan);
  }
  if (direction == NVTE_FORWARD) plan.next_item = params->next_item;
  return check_launch(resolved, resolved.device.plugin->seq_plan(plan, launch.stream), "the sequence plan");
}

// A contiguous float tensor [b, s_q, h], or [t, h] for thd, in the order of q's format.
TensorView scratch_view(const AttnParams& p, int64_t format, float* data) {
  const int64_t heads = p.num_heads_q, rows = p.q_side.seqlen, batch = p.batch;
  switch (format) {
    case NVTE_BHSD:
      return TensorView{data, heads * rows, 1, rows};
    case NVTE_SBHD:
      return TensorView{data, heads, batch * heads, 1};
    case NVTE_THD:
      return TensorView{data, 0, heads, 1};
    default:
      return TensorView{data, rows * heads, heads, 1};
  }
}

void place_scratch(const AttnConfig& config, const WorkspaceLayout& layout, void* workspace, AttnParams* params) {
  params->delta = scratch_view(*params, config.q_format, layout.carve<float>(workspace, kDelta));
  params->dq_accum.data = layout.carve<float>(workspace, kDqAccum);
  params->dq_accum.turns = layout.carve<int32_t>(workspace, kDqTurns);
  params->row_stats.data = layout.carve<float>(workspace, kRowStats);
  params->next_item = layout.carve<int32_t>(workspace, kNextItem);
}

void log_call(const ResolvedConfig& resolved, const AttnConfig& config, NVTEDirection direction,
              const KernelChoice& choice) {
  if (!log_enabled(LogLevel::kCalls)) return;
  log_line(format_text("%s by %s (%s). Config: %s", direction == NVTE_FORWARD ? "forward" : "backward",
                       resolved.row->name, choice.name, describe_config(config).c_str()));
}

NVTEStatus launch_backward(const Launch& launch, const ResolvedConfig& resolved, const KernelChoice& choice,
                           const SeqlenArguments& seqlens, void* workspace, AttnParams* params) {
  const Plugin& plugin = *resolved.device.plugin;
  if (!choice.dq_accum) params->dq_accum = DqScratch();
  if (!choice.row_stats) params->row_stats = RowStats();
  if (!choice.dq_use.takes_turns) params->dq_accum.turns = nullptr;
  params->dq_accum.use = choice.dq_use;
  PA_RETURN_IF_ERROR(plan_sequences(launch, resolved, NVTE_BACKWARD, choice, seqlens, workspace, params));
  if (resolved.backward.tiling.delta) {
    PA_RETURN_IF_ERROR(check_launch(resolved, plugin.delta(*params, launch.dtype, launch.stream), "delta"));
  }
  PA_RETURN_IF_ERROR(check_launch(resolved, resolved.row->backward(launch), "the backward"));
  if (params->dbias.data != nullptr) {
    PA_RETURN_IF_ERROR(
        check_launch(resolved, plugin.bias_grad(*params, launch.dtype, launch.stream), "the bias gradient"));
  }
  if (params->d_softmax_offset == nullptr) return NVTE_SUCCESS;
  return check_launch(resolved, plugin.sink_grad(*params, launch.stream), "the sink gradient");
}

NVTEStatus check_training(const AttnConfig& config) {
  if (config.is_training != 0) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT,
              "is_training is 0, and the backend was chosen for a forward alone: set is_training to 1 for a backward");
}

}  // namespace

NVTEStatus run_forward(const AttnConfig& config, const ResolvedConfig& resolved, const NVTEFusedAttnInputs* inputs,
                       const NVTEFusedAttnOutputs* outputs, const NVTETensor* workspace, void* stream) {
  AttnParams params = resolved.params;
  SeqlenArguments seqlens;
  void* base;
  PA_RETURN_IF_ERROR(read_inputs(config, resolved, inputs, &params, &seqlens));
  PA_RETURN_IF_ERROR(read_outputs(config, resolved, outputs, &params));
  PA_RETURN_IF_ERROR(read_workspace(resolved, resolved.forward, workspace, &base));
  params.next_item = resolved.forward.carve<int32_t>(base, kNextItem);
  const Launch launch{resolved.device, static_cast<DType>(config.dtype), params, stream};
  const KernelChoice choice = choose_kernel(launch, resolved, NVTE_FORWARD);
  log_call(resolved, config, NVTE_FORWARD, choice);
  const DeviceScope scope(resolved.device);
  PA_RETURN_IF_ERROR(check_launch(resolved, scope.error(), "on the device"));
  if (env().debug) {
    const int error = report_broken_promises(config, resolved.device, seqlens, stream);
    PA_RETURN_IF_ERROR(check_launch(resolved, error, "a look at the lengths"));
  }
  PA_RETURN_IF_ERROR(plan_sequences(launch, resolved, NVTE_FORWARD, choice, seqlens, base, &params));
  return check_launch(resolved, resolved.row->forward(launch), "the forward");
}

NVTEStatus run_backward(const AttnConfig& config, const ResolvedConfig& resolved, const NVTEFusedAttnInputs* inputs,
                        const NVTEFusedAttnGradInputs* grad_inputs, const NVTEFusedAttnGradOutputs* grad_outputs,
                        const NVTETensor* workspace, void* stream) {
  PA_RETURN_IF_ERROR(check_training(config));
  AttnParams params = resolved.params;
  SeqlenArguments seqlens;
  void* base;
  PA_RETURN_IF_ERROR(read_inputs(config, resolved, inputs, &params, &seqlens));
  PA_RETURN_IF_ERROR(read_grad_inputs(config, resolved, grad_inputs, &params));
  PA_RETURN_IF_ERROR(read_grad_outputs(config, resolved, grad_outputs, &params));
  PA_RETURN_IF_ERROR(read_workspace(resolved, resolved.backward, workspace, &base));
  place_scratch(config, resolved.backward, base, &params);
  const Launch launch{resolved.device, static_cast<DType>(config.dtype), params, stream};
  const KernelChoice choice = choose_kernel(launch, resolved, NVTE_BACKWARD);
  log_call(resolved, config, NVTE_BACKWARD, choice);
  const DeviceScope scope(resolved.device);
  PA_RETURN_IF_ERROR(check_launch(resolved, scope.error(), "on the device"));
  return launch_backward(launch, resolved, choice, seqlens, base, &params);
}

}  // namespace portattn
