// The forward kernels of sm_90 on the model (include/model.h): o and lse against double, for dense and packed
// sequences, on one multiprocessor and on three.
//
//   forward_test KERNEL SEED
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "fmha/kernel_fwd_ws.cuh"
#include "problem.h"

namespace portattn {
namespace {

using namespace model;

constexpr double kTolerance = 2e-2;  // of the largest o, or of 1; 16-bit p and o

template <class T>
class Check {
 public:
  Check(const Shape& shape, int32_t dim_qk, int32_t dim_v, int32_t tile_rows, uint32_t seed)
      : shape_(shape),
        random_(seed),
        lengths_q_(draw_lengths(shape, shape.len_q, random_)),
        lengths_kv_(shape.is_thd && shape.causal ? lengths_q_ : draw_lengths(shape, shape.len_kv, random_)),
        side_q_(shape, lengths_q_, random_, tile_rows),
        side_kv_(shape, lengths_kv_, random_, 1),
        q_(side_q_, shape.batch, shape.heads_q, dim_qk),
        o_(side_q_, shape.batch, shape.heads_q, dim_v),
        k_(side_kv_, shape.batch, shape.heads_kv, dim_qk),
        v_(side_kv_, shape.batch, shape.heads_kv, dim_v),
        lse_(side_q_, shape.batch, shape.heads_q, 1) {
    q_.draw(side_q_, random_);
    for (Tensor<T>* tensor : {&k_, &v_}) tensor->draw(side_kv_, random_);
  }

  // The largest error.
  double run(int (*launch)(const AttnParams&, void*)) {
    if (launch(params(), nullptr) != 0) broken("the launch failed");
    double worst = 0;
    for (int32_t seq = 0; seq < shape_.batch; ++seq) {
      for (int32_t i = 0; i < lengths_q_[seq]; ++i) {
        for (int32_t head = 0; head < shape_.heads_q; ++head) worst = std::max(worst, error(seq, i, head));
      }
    }
    return worst;
  }

 private:
  float scale() const { return 1.f / std::sqrt(static_cast<float>(q_.dim)); }

  AttnParams params() {
    AttnParams p;
    p.q = q_.view(), p.k = k_.view(), p.v = v_.view(), p.o = o_.view(), p.lse = lse_.view();
    p.next_item = &next_item_;
    p.batch = shape_.batch;
    p.q_side = side_q_.side, p.kv_side = side_kv_.side;
    p.num_heads_q = shape_.heads_q, p.num_heads_kv = shape_.heads_kv;
    p.head_dim_qk = q_.dim, p.head_dim_v = v_.dim;
    p.window_right = shape_.causal ? 0 : -1;
    p.attn_scale = scale();
    return p;
  }

  // Of one row.
  double error(int32_t seq, int32_t i, int32_t head) {
    const int32_t head_kv = head / (shape_.heads_q / shape_.heads_kv);
    const int32_t keys = shape_.causal ? std::min(i + 1, lengths_kv_[seq]) : lengths_kv_[seq];
    const int64_t query = side_q_.first(seq) + i, key0 = side_kv_.first(seq);
    std::vector<double> o(v_.dim);
    double sum = 0;
    for (int32_t j = 0; j < keys; ++j) {
      const double p = std::exp(scale() * dot(q_.row(query, head), k_.row(key0 + j, head_kv), q_.dim));
      sum += p;
      for (int32_t d = 0; d < v_.dim; ++d) o[d] += p * to_float(v_.row(key0 + j, head_kv)[d]);
    }
    const float lse = *lse_.row(query, head);
    double worst = keys == 0 ? (lse == -INFINITY ? 0 : INFINITY) : distance(lse, std::log(sum));
    for (int32_t d = 0; d < v_.dim; ++d) {
      worst = std::max(worst, distance(to_float(o_.row(query, head)[d]), keys == 0 ? 0 : o[d] / sum));
    }
    return worst;
  }

  Shape shape_;
  std::mt19937 random_;
  std::vector<int32_t> lengths_q_, lengths_kv_;
  Side side_q_, side_kv_;
  Tensor<T> q_, o_, k_, v_;
  Tensor<float> lse_;
  int32_t next_item_ = 0;
};

template <class Kernel>
int check(uint32_t seed) {
  using Problem = typename Kernel::Problem;
  int wrong = 0;
  for (int multiprocessors : {1, 3}) {
    for (const Shape& shape : kShapes) {
      device().multiprocessors = multiprocessors;
      device().random.seed(seed);
      Check<typename Problem::Element> check(shape, Problem::kHeadDimQk, Problem::kHeadDimV, Problem::kBlockQ, seed);
      const double error = check.run(launch_fmha_fwd_ws<Kernel>);
      if (error < kTolerance) continue;
      std::printf("seed %u, %d multiprocessors, thd %d, causal %d: error %.3g\n", seed, multiprocessors, shape.is_thd,
                  shape.causal, error);
      ++wrong;
    }
  }
  return wrong;
}

// Head dims, consumers, keys of a block, stages, and from which sequences on.
struct Three64 : FmhaFwdWs<sm90::FwdWsProblem<bf16, 64, 64, 3, 128, 2, 0, 0>> {};
struct One64 : FmhaFwdWs<sm90::FwdWsProblem<half, 64, 64, 1, 128, 2, 0, 0>> {};
struct Two128 : FmhaFwdWs<sm90::FwdWsProblem<bf16, 128, 128, 2, 128, 2, 0, 0>> {};
struct OneBuffer : FmhaFwdWs<sm90::FwdWsProblem<half, 192, 128, 2, 128, 2, 0, 0>> {};

}  // namespace
}  // namespace portattn

int main(int argc, char** argv) {
  using namespace portattn;
  const std::map<std::string, int (*)(uint32_t)> kernels = {
      {"64", check<Three64>}, {"64_packed", check<One64>}, {"128", check<Two128>}, {"192_128", check<OneBuffer>}};
  if (argc != 3 || kernels.count(argv[1]) == 0) model::broken("forward_test KERNEL SEED");
  return kernels.at(argv[1])(static_cast<uint32_t>(std::atoi(argv[2])));
}
