// The forward kernels of sm_90 on the model (include/model.h): o and lse against double, for dense and packed
// sequences, on one multiprocessor and on three.
//
//   forward_test KERNEL SEED
#include <cmath>
#include <vector>

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
      : sequences_(shape, tile_rows, 1, seed),
        q_(sequences_.q, shape.batch, shape.heads_q, dim_qk),
        o_(sequences_.q, shape.batch, shape.heads_q, dim_v),
        k_(sequences_.kv, shape.batch, shape.heads_kv, dim_qk),
        v_(sequences_.kv, shape.batch, shape.heads_kv, dim_v),
        lse_(sequences_.q, shape.batch, shape.heads_q, 1) {
    q_.draw(sequences_.q, sequences_.random);
    for (Tensor<T>* tensor : {&k_, &v_}) tensor->draw(sequences_.kv, sequences_.random);
  }

  // The largest error.
  double run(int (*launch)(const AttnParams&, void*)) {
    if (launch(params(), nullptr) != 0) broken("the launch failed");
    double worst = 0;
    for (int32_t seq = 0; seq < sequences_.shape.batch; ++seq) {
      for (int32_t i = 0; i < sequences_.lengths_q[seq]; ++i) {
        for (int32_t head = 0; head < q_.heads; ++head) worst = std::max(worst, error(seq, i, head));
      }
    }
    return worst;
  }

 private:
  AttnParams params() {
    AttnParams p = sequences_.params(q_.dim, v_.dim);
    p.q = q_.view(), p.k = k_.view(), p.v = v_.view(), p.o = o_.view(), p.lse = lse_.view();
    p.next_item = &next_item_;
    return p;
  }

  // Of one row.
  double error(int32_t seq, int32_t i, int32_t head) {
    const int32_t head_kv = head / (q_.heads / k_.heads);
    const double scale = sequences_.params(q_.dim, v_.dim).attn_scale;
    const int32_t keys = sequences_.keys(seq, i);
    const int64_t query = sequences_.q.first(seq) + i, key0 = sequences_.kv.first(seq);
    std::vector<double> o(v_.dim);
    double sum = 0;
    for (int32_t j = 0; j < keys; ++j) {
      const double p = std::exp(scale * dot(q_.row(query, head), k_.row(key0 + j, head_kv), q_.dim));
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

  Sequences sequences_;
  Tensor<T> q_, o_, k_, v_;
  Tensor<float> lse_;
  int32_t next_item_ = 0;
};

template <class Kernel>
int check(uint32_t seed) {
  using Problem = typename Kernel::Problem;
  return count_wrong(seed, kTolerance, [&](const Shape& shape) {
    Check<typename Problem::Element> check(shape, Problem::kHeadDimQk, Problem::kHeadDimV, Problem::kBlockQ, seed);
    return check.run(launch_fmha_fwd_ws<Kernel>);
  });
}

// Head dims, consumers, keys of a block, stages, and from which sequences on.
struct Three64 : FmhaFwdWs<sm90::FwdWsProblem<bf16, 64, 64, 3, 128, 2, 0, 0>> {};
struct One64 : FmhaFwdWs<sm90::FwdWsProblem<half, 64, 64, 1, 128, 2, 0, 0>> {};
struct Two128 : FmhaFwdWs<sm90::FwdWsProblem<bf16, 128, 128, 2, 128, 2, 0, 0>> {};
struct InParts : FmhaFwdWs<sm90::FwdWsProblem<bf16, 512, 512, 2, 64, 1, 0, 0>> {};
struct OneBuffer : FmhaFwdWs<sm90::FwdWsProblem<half, 192, 128, 2, 128, 2, 0, 0>> {};

}  // namespace
}  // namespace portattn

int main(int argc, char** argv) {
  using namespace portattn;
  return model::check_named(argc, argv,
                            {{"64", check<Three64>},
                             {"64_packed", check<One64>},
                             {"128", check<Two128>},
                             {"192_128", check<OneBuffer>},
                             {"512", check<InParts>}});
}
