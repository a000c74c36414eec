// The backward kernels of sm_90 on the model (include/model.h): dq, dk and dv against double, for dense and packed
// sequences, on one multiprocessor and on three.
//
//   backward_test KERNEL SEED
#include <cmath>
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
  Check(const Shape& shape, int32_t dim_qk, int32_t dim_v, int32_t tile_rows, DqUse use, uint32_t seed)
      : use_(use),
        sequences_(shape, 1, tile_rows, seed),
        q_(sequences_.q, shape.batch, shape.heads_q, dim_qk),
        d_o_(sequences_.q, shape.batch, shape.heads_q, dim_v),
        k_(sequences_.kv, shape.batch, shape.heads_kv, dim_qk),
        v_(sequences_.kv, shape.batch, shape.heads_kv, dim_v),
        dq_(sequences_.q, shape.batch, shape.heads_q, dim_qk),
        dk_(sequences_.kv, shape.batch, shape.heads_kv, dim_qk),
        dv_(sequences_.kv, shape.batch, shape.heads_kv, dim_v),
        groups_(dq_scratch_groups(shape.is_thd, sequences_.q.side.seqlen, shape.batch)),
        accum_(groups_ * kRows * shape.heads_q * dim_qk, 0.f),
        turns_(groups_ * shape.heads_q * DqScratch::kTurns, 0),
        stats_(2 * groups_ * kRows * shape.heads_q + RowStats::kSpareRows, NAN) {
    for (Tensor<T>* tensor : {&q_, &d_o_}) tensor->draw(sequences_.q, sequences_.random);
    for (Tensor<T>* tensor : {&k_, &v_}) tensor->draw(sequences_.kv, sequences_.random);
  }

  // The largest error of any gradient, of its largest element.
  double run(bool deterministic, int (*launch)(const AttnParams&, void*)) {
    Gradient dq(q_.values.storage.size()), dk(k_.values.storage.size()), dv(v_.values.storage.size());
    for (int32_t seq = 0; seq < sequences_.shape.batch; ++seq) {
      for (int32_t head = 0; head < q_.heads; ++head) expect(seq, head, dq, dk, dv);
    }
    if (use_.stores_first) std::fill(accum_.storage.begin(), accum_.storage.end(), NAN);
    for_each_unseen([&](int32_t seq, int32_t i) { zero(seq, i); });
    if (launch(params(deterministic), nullptr) != 0) model::broken("the launch failed");
    return std::max({error_dq(dq), error(dk_, dk), error(dv_, dv)});
  }

 private:
  int64_t group(int32_t seq) const {
    return sequences_.shape.is_thd ? sequences_.q.spans[seq].start / kRows + seq
                                   : ceil_div(sequences_.q.side.seqlen, int64_t{kRows}) * seq;
  }

  // As delta leaves a row that nothing comes to.
  void zero(int32_t seq, int32_t i) {
    for (int32_t head = 0; head < q_.heads; ++head) {
      for (int32_t d = 0; d < q_.dim; ++d) {
        if (use_.writes_dq) {
          dq_.row(sequences_.q.first(seq) + i, head)[d] = T();
        } else {
          dq(seq, i, head, d) = 0.f;
        }
      }
    }
  }

  // f(sequence, query) where no key is seen.
  template <class F>
  void for_each_unseen(F f) const {
    for (int32_t seq = 0; seq < sequences_.shape.batch; ++seq) {
      for (int32_t i = 0; i < sequences_.lengths_q[seq]; ++i) {
        if (sequences_.keys(seq, i) == 0) f(seq, i);
      }
    }
  }

  float& dq(int32_t seq, int32_t i, int32_t head, int32_t d) {
    const int64_t block = (group(seq) + i / kRows) * q_.heads + head;
    const int place = use_.transposed ? Arch::TransposedScratchLayout::offset(i % kRows, d)
                                      : Arch::ScratchLayout::offset(i % kRows, d);
    return accum_.data[block * kRows * q_.dim + place];
  }

  AttnParams params(bool deterministic) {
    AttnParams p = sequences_.params(q_.dim, v_.dim);
    p.q = q_.view(), p.k = k_.view(), p.v = v_.view(), p.d_o = d_o_.view(), p.dq = dq_.view(), p.dk = dk_.view(),
    p.dv = dv_.view();
    p.dq_accum.data = accum_.data, p.dq_accum.turns = turns_.data, p.row_stats.data = stats_.data;
    p.next_item = &next_item_;
    p.deterministic = deterministic;
    return p;
  }

  static void add(Tensor<T>& to, Gradient& gradient, int64_t token, int32_t head, double factor, const T* x) {
    for (int32_t d = 0; d < to.dim; ++d) gradient[(token * to.heads + head) * to.dim + d] += factor * to_float(x[d]);
  }

  // Gradients of one head of a sequence, and its row stats.
  void expect(int32_t seq, int32_t head, Gradient& dq, Gradient& dk, Gradient& dv) {
    const int32_t head_kv = head / (q_.heads / k_.heads);
    const double scale = sequences_.params(q_.dim, v_.dim).attn_scale;
    for (int32_t i = 0; i < sequences_.lengths_q[seq]; ++i) {
      const int64_t query = sequences_.q.first(seq) + i, key0 = sequences_.kv.first(seq);
      const int32_t keys = sequences_.keys(seq, i);
      std::vector<double> s(keys), dp(keys);
      double sum = 0, delta = 0;
      for (int32_t j = 0; j < keys; ++j) {
        s[j] = scale * dot(q_.row(query, head), k_.row(key0 + j, head_kv), q_.dim);
        dp[j] = dot(d_o_.row(query, head), v_.row(key0 + j, head_kv), v_.dim);
        sum += std::exp(s[j]);
      }
      for (int32_t j = 0; j < keys; ++j) delta += std::exp(s[j]) / sum * dp[j];
      for (int32_t j = 0; j < keys; ++j) {
        const double p = std::exp(s[j]) / sum, ds = scale * p * (dp[j] - delta);
        add(q_, dq, query, head, ds, k_.row(key0 + j, head_kv));
        add(k_, dk, key0 + j, head_kv, ds, q_.row(query, head));
        add(v_, dv, key0 + j, head_kv, p, d_o_.row(query, head));
      }
      float* stats = stats_.data + (head * groups_ + group(seq)) * kRows + i;
      stats[0] = keys > 0 ? static_cast<float>(std::log(sum) * kLog2e) : INFINITY;
      stats[groups_ * kRows * q_.heads] = static_cast<float>(-delta);
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
    for (int32_t seq = 0; seq < sequences_.shape.batch; ++seq) {
      const int64_t begin = sequences_.kv.first(seq) * got.heads * got.dim;
      for (int64_t i = begin; i < begin + int64_t{sequences_.lengths_kv[seq]} * got.heads * got.dim; ++i) {
        keep_worse(worst, to_float(got.values.data[i]), expected[i]);
      }
    }
    return worst / largest(expected);
  }
  double error_dq(const Gradient& expected) {
    double worst = 0;
    for (int32_t seq = 0; seq < sequences_.shape.batch; ++seq) {
      for (int32_t i = 0; i < sequences_.lengths_q[seq]; ++i) {
        for (int32_t head = 0; head < q_.heads; ++head) {
          const int64_t row = sequences_.q.first(seq) + i;
          for (int32_t d = 0; d < q_.dim; ++d) {
            const double got = use_.writes_dq ? to_float(dq_.row(row, head)[d]) : dq(seq, i, head, d);
            keep_worse(worst, got, expected[(row * q_.heads + head) * q_.dim + d]);
          }
        }
      }
    }
    return worst / largest(expected);
  }

  DqUse use_;
  Sequences sequences_;
  Tensor<T> q_, d_o_, k_, v_, dq_, dk_, dv_;
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
  return count_wrong(seed, kTolerance, [&](const Shape& shape) {
    Check<typename Problem::Element> check(shape, Problem::kHeadDimQk, Problem::kHeadDimV, Kernel::kPlannedRows,
                                           Problem::dq_use(), seed);
    return check.run(Problem::kOrdered, launch_ws<Kernel>);
  });
}

struct Narrow64 : FmhaBwdWs<sm90::BwdWsProblem<bf16, 64, 64, 128, sm90::DqSum::kAnyOrder>> {};
struct Narrow128 : FmhaBwdWs<sm90::BwdWsProblem<half, 128, 128, 64, sm90::DqSum::kAnyOrder>> {};
struct Long128 : FmhaBwdWs<sm90::BwdWsProblem<bf16, 128, 128, 80, sm90::DqSum::kAnyOrder>> {};
struct Ordered64 : FmhaBwdWs<sm90::BwdWsProblem<half, 64, 64, 128, sm90::DqSum::kTurns>> {};
struct Ordered128 : FmhaBwdWs<sm90::BwdWsProblem<bf16, 128, 128, 64, sm90::DqSum::kTurns>> {};
struct Whole64 : FmhaBwdWs<sm90::BwdWsProblem<bf16, 64, 64, 128, sm90::DqSum::kOneBlock>> {};
struct ByKeys : FmhaBwdWide<sm90::BwdWideProblem<bf16, 192, 128, 128>> {};
struct InParts : FmhaBwdWide<sm90::BwdWideProblem<bf16, 512, 512, 64>> {};
struct ByProduct : FmhaBwdWide<sm90::BwdWideProblem<half, 256, 256, 64>> {};

}  // namespace
}  // namespace portattn

int main(int argc, char** argv) {
  using namespace portattn;
  return model::check_named(argc, argv,
                            {{"64", check<Narrow64>},
                             {"128", check<Narrow128>},
                             {"128_long", check<Long128>},
                             {"64_ordered", check<Ordered64>},
                             {"128_ordered", check<Ordered128>},
                             {"64_whole", check<Whole64>},
                             {"192_128", check<ByKeys>},
                             {"256", check<ByProduct>},
                             {"512", check<InParts>}});
}
