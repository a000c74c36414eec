// The backward kernels of sm_90 on the model (include/model.h): dq, dk and dv against double, for dense and packed
// sequences, on one multiprocessor and on three.
//
//   backward_test KERNEL SEED
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "fmha/kernel_bwd_wide.cuh"
#include "fmha/kernel_bwd_ws.cuh"
#include "problem.h"

namespace portattn {
namespace {

using namespace model;

constexpr double kTolerance = 1e-2;  // of the largest gradient; 16-bit p, ds and results
constexpr int32_t kRows = DqScratch::kRows;

using Gradient = std::vector<double>;  // of a Tensor's elements

template <class T>
class Check {
 public:
  Check(const Shape& shape, int32_t dim_qk, int32_t dim_v, int32_t tile_rows, uint32_t seed)
      : shape_(shape),
        random_(seed),
        lengths_q_(draw_lengths(shape, shape.len_q, random_)),
        lengths_kv_(shape.is_thd && shape.causal ? lengths_q_ : draw_lengths(shape, shape.len_kv, random_)),
        side_q_(shape, lengths_q_, random_, 1),
        side_kv_(shape, lengths_kv_, random_, tile_rows),
        q_(side_q_, shape.batch, shape.heads_q, dim_qk),
        d_o_(side_q_, shape.batch, shape.heads_q, dim_v),
        k_(side_kv_, shape.batch, shape.heads_kv, dim_qk),
        v_(side_kv_, shape.batch, shape.heads_kv, dim_v),
        dk_(side_kv_, shape.batch, shape.heads_kv, dim_qk),
        dv_(side_kv_, shape.batch, shape.heads_kv, dim_v),
        groups_(dq_scratch_groups(shape.is_thd, side_q_.side.seqlen, shape.batch)),
        accum_(groups_ * kRows * shape.heads_q * dim_qk, 0.f),
        turns_(groups_ * shape.heads_q * DqScratch::kTurns, 0),
        stats_(2 * groups_ * kRows * shape.heads_q + RowStats::kSpareRows, NAN) {
    for (Tensor<T>* tensor : {&q_, &d_o_}) tensor->draw(side_q_, random_);
    for (Tensor<T>* tensor : {&k_, &v_}) tensor->draw(side_kv_, random_);
  }

  // The largest error of any gradient, of its largest element.
  double run(bool deterministic, int (*launch)(const AttnParams&, void*)) {
    Gradient dq(q_.values.storage.size()), dk(k_.values.storage.size()), dv(v_.values.storage.size());
    for (int32_t seq = 0; seq < shape_.batch; ++seq) {
      for (int32_t head = 0; head < shape_.heads_q; ++head) expect(seq, head, dq, dk, dv);
    }
    if (launch(params(deterministic), nullptr) != 0) model::broken("the launch failed");
    return std::max({error_dq(dq), error(dk_, dk), error(dv_, dv)});
  }

 private:
  float scale() const { return 1.f / std::sqrt(static_cast<float>(q_.dim)); }
  int64_t group(int32_t seq) const {
    return shape_.is_thd ? side_q_.spans[seq].start / kRows + seq : ceil_div(side_q_.side.seqlen, int64_t{kRows}) * seq;
  }

  AttnParams params(bool deterministic) {
    AttnParams p;
    p.q = q_.view(), p.k = k_.view(), p.v = v_.view(), p.d_o = d_o_.view(), p.dk = dk_.view(), p.dv = dv_.view();
    p.dq_accum.data = accum_.data, p.dq_accum.turns = turns_.data, p.row_stats.data = stats_.data;
    p.next_item = &next_item_;
    p.batch = shape_.batch;
    p.q_side = side_q_.side, p.kv_side = side_kv_.side;
    p.num_heads_q = shape_.heads_q, p.num_heads_kv = shape_.heads_kv;
    p.head_dim_qk = q_.dim, p.head_dim_v = v_.dim;
    p.window_right = shape_.causal ? 0 : -1;
    p.attn_scale = scale();
    p.deterministic = deterministic;
    return p;
  }

  static void add(Tensor<T>& to, Gradient& gradient, int64_t token, int32_t head, double factor, const T* x) {
    for (int32_t d = 0; d < to.dim; ++d) gradient[(token * to.heads + head) * to.dim + d] += factor * to_float(x[d]);
  }

  // Gradients of one head of a sequence, and its row stats.
  void expect(int32_t seq, int32_t head, Gradient& dq, Gradient& dk, Gradient& dv) {
    const int32_t head_kv = head / (shape_.heads_q / shape_.heads_kv);
    for (int32_t i = 0; i < lengths_q_[seq]; ++i) {
      const int64_t query = side_q_.first(seq) + i, key0 = side_kv_.first(seq);
      const int32_t keys = shape_.causal ? std::min(i + 1, lengths_kv_[seq]) : lengths_kv_[seq];
      std::vector<double> s(keys), dp(keys);
      double sum = 0, delta = 0;
      for (int32_t j = 0; j < keys; ++j) {
        s[j] = scale() * dot(q_.row(query, head), k_.row(key0 + j, head_kv), q_.dim);
        dp[j] = dot(d_o_.row(query, head), v_.row(key0 + j, head_kv), v_.dim);
        sum += std::exp(s[j]);
      }
      for (int32_t j = 0; j < keys; ++j) delta += std::exp(s[j]) / sum * dp[j];
      for (int32_t j = 0; j < keys; ++j) {
        const double p = std::exp(s[j]) / sum, ds = scale() * p * (dp[j] - delta);
        add(q_, dq, query, head, ds, k_.row(key0 + j, head_kv));
        add(k_, dk, key0 + j, head_kv, ds, q_.row(query, head));
        add(v_, dv, key0 + j, head_kv, p, d_o_.row(query, head));
      }
      float* stats = stats_.data + (head * groups_ + group(seq)) * kRows + i;
      stats[0] = keys > 0 ? static_cast<float>(std::log(sum) * kLog2e) : INFINITY;
      stats[groups_ * kRows * shape_.heads_q] = static_cast<float>(-delta);
    }
  }

  static double largest(const Gradient& gradient) {
    double most = 1e-6;
    for (double x : gradient) most = std::max(most, std::fabs(x));
    return most;
  }
  static void keep_worse(double& worst, double got, double expected) {
    worst = std::max(worst, distance(got, expected));
  }
  double error(Tensor<T>& got, const Gradient& expected) {
    double worst = 0;
    for (int32_t seq = 0; seq < shape_.batch; ++seq) {
      const int64_t begin = side_kv_.first(seq) * got.heads * got.dim;
      for (int64_t i = begin; i < begin + int64_t{lengths_kv_[seq]} * got.heads * got.dim; ++i) {
        keep_worse(worst, to_float(got.values.data[i]), expected[i]);
      }
    }
    return worst / largest(expected);
  }
  double error_dq(const Gradient& expected) {
    double worst = 0;
    for (int32_t seq = 0; seq < shape_.batch; ++seq) {
      for (int32_t i = 0; i < lengths_q_[seq]; ++i) {
        for (int32_t head = 0; head < shape_.heads_q; ++head) {
          const int64_t block = (group(seq) + i / kRows) * shape_.heads_q + head, row = side_q_.first(seq) + i;
          for (int32_t d = 0; d < q_.dim; ++d) {
            const float got = accum_.data[block * kRows * q_.dim + Arch::ScratchLayout::offset(i % kRows, d)];
            keep_worse(worst, got, expected[(row * shape_.heads_q + head) * q_.dim + d]);
          }
        }
      }
    }
    return worst / largest(expected);
  }

  Shape shape_;
  std::mt19937 random_;
  std::vector<int32_t> lengths_q_, lengths_kv_;
  Side side_q_, side_kv_;
  Tensor<T> q_, d_o_, k_, v_, dk_, dv_;
  int64_t groups_;
  Aligned<float> accum_;
  Aligned<int32_t> turns_;
  Aligned<float> stats_;
  int32_t next_item_ = 0;
};

template <class Kernel>
int launch_ws(const AttnParams& p, void* stream) {
  return launch_fmha_bwd_ws<Kernel>(p, stream);
}

template <class Kernel>
int check(uint32_t seed) {
  using Problem = typename Kernel::Problem;
  int wrong = 0;
  for (int multiprocessors : {1, 3}) {
    for (const Shape& shape : kShapes) {
      model::device().multiprocessors = multiprocessors;
      model::device().random.seed(seed);
      Check<typename Problem::Element> check(shape, Problem::kHeadDimQk, Problem::kHeadDimV, Problem::kBlockKv, seed);
      const double error = check.run(Problem::kOrdered, launch_ws<Kernel>);
      if (error < kTolerance) continue;
      std::printf("seed %u, %d multiprocessors, thd %d, causal %d: error %.3g\n", seed, multiprocessors, shape.is_thd,
                  shape.causal, error);
      ++wrong;
    }
  }
  return wrong;
}

struct Narrow64 : FmhaBwdWs<sm90::BwdWsProblem<bf16, 64, 64, 128, false>> {};
struct Narrow128 : FmhaBwdWs<sm90::BwdWsProblem<half, 128, 128, 64, false>> {};
struct Ordered64 : FmhaBwdWs<sm90::BwdWsProblem<half, 64, 64, 128, true>> {};
struct Ordered128 : FmhaBwdWs<sm90::BwdWsProblem<bf16, 128, 128, 64, true>> {};
struct ByKeys : FmhaBwdWide<sm90::BwdWideProblem<bf16, 192, 128, 128>> {};
struct ByProduct : FmhaBwdWide<sm90::BwdWideProblem<half, 256, 256, 64>> {};

}  // namespace
}  // namespace portattn

int main(int argc, char** argv) {
  using namespace portattn;
  const std::map<std::string, int (*)(uint32_t)> kernels = {
      {"64", check<Narrow64>},          {"128", check<Narrow128>},
      {"64_ordered", check<Ordered64>}, {"128_ordered", check<Ordered128>},
      {"192_128", check<ByKeys>},       {"256", check<ByProduct>},
  };
  if (argc != 3 || kernels.count(argv[1]) == 0) model::broken("backward_test KERNEL SEED");
  return kernels.at(argv[1])(static_cast<uint32_t>(std::atoi(argv[2])));
}
