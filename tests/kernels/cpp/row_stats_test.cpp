// Row stats as delta writes them (RowStats in attn/params.h), on the host, for lengths and layouts drawn at random:
// each token's lse and delta where its group and its head put it, and nothing written anywhere else.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "bwd_common/delta.cuh"

namespace portattn {
namespace {

constexpr float kUntouched = -12345.f;
constexpr int32_t kDim = 8;
int failures = 0;

void expect(bool condition, const char* what, int seed) {
  if (condition) return;
  if (++failures <= 10) std::printf("%s, seed %d\n", what, seed);
}

// Sequences of one buffer, packed with padding or one in each batch entry, and values for all of it.
struct Problem {
  std::mt19937 random;
  AttnParams p;
  std::vector<SeqSpan> spans;
  std::vector<float> o, d_o, lse, delta, stats;

  explicit Problem(int seed) : random(seed) {
    p.q_side.is_thd = upto(1) == 1;
    p.batch = 1 + upto(5);
    p.num_heads_q = 1 + upto(6);
    p.head_dim_qk = p.head_dim_v = kDim;
    p.q_side.seqlen = p.q_side.is_thd ? pack() : upto(50);
    const int64_t heads = p.num_heads_q, rows = num_token_rows(p.q_side, p.batch);
    const int64_t batch_rows = p.q_side.is_thd ? 0 : p.q_side.seqlen;
    o = draw(rows * heads * kDim);
    d_o = draw(rows * heads * kDim);
    lse = draw(rows * heads);
    for (float& x : lse) x = upto(5) == 0 ? -std::numeric_limits<float>::infinity() : x;
    delta.resize(rows * heads);
    stats.assign(2 * heads * groups() * DqScratch::kRows + RowStats::kSpareRows, kUntouched);
    p.o = TensorView{o.data(), batch_rows * heads * kDim, heads * kDim, kDim};
    p.d_o = p.o;
    p.d_o.data = d_o.data();
    p.lse = TensorView{lse.data(), batch_rows * heads, heads, 1};
    p.delta = p.lse;
    p.delta.data = delta.data();
    p.row_stats.data = stats.data();
  }

  int32_t upto(int32_t last) { return std::uniform_int_distribution<int32_t>(0, last)(random); }

  std::vector<float> draw(int64_t count) {
    std::vector<float> values(count);
    for (float& x : values) x = std::normal_distribution<float>()(random);
    return values;
  }

  int32_t pack() {
    int32_t next = upto(20);
    for (int32_t i = 0; i < p.batch; ++i) {
      const int32_t len = upto(2) == 0 ? 0 : upto(60), slot = len + upto(1) * upto(20);
      spans.push_back(SeqSpan{next, len, slot});
      next += slot;
    }
    p.q_side.plan.spans = spans.data();
    return next + upto(20);
  }

  int64_t groups() const {
    const int64_t s = p.q_side.seqlen;
    return p.q_side.is_thd ? s / 16 + p.batch + 1 : (s + 15) / 16 * p.batch;
  }
};

void check(int seed) {
  Problem x(seed);
  const AttnParams& p = x.p;
  expect(run_delta<float>(p, nullptr) == 0, "delta fails", seed);
  std::vector<float> expected(x.stats.size(), kUntouched);
  const int64_t half = p.num_heads_q * x.groups() * 16;
  for (int32_t seq = 0; seq < p.batch; ++seq) {
    const int64_t start = p.q_side.is_thd ? x.spans[seq].start : 0;
    const int64_t len = p.q_side.is_thd ? x.spans[seq].len : p.q_side.seqlen;
    const int64_t group = p.q_side.is_thd ? start / 16 + seq : (len + 15) / 16 * seq;
    for (int64_t row = 0; row < len; ++row) {
      for (int32_t head = 0; head < p.num_heads_q; ++head) {
        const int64_t token = p.q_side.is_thd ? start + row : seq * len + row, at = token * p.num_heads_q + head;
        double sum = 0;
        for (int32_t d = 0; d < kDim; ++d) sum += double{x.o[at * kDim + d]} * x.d_o[at * kDim + d];
        float* out = &expected[(head * x.groups() + group) * 16 + row];
        out[0] = std::isinf(x.lse[at]) ? -x.lse[at] : x.lse[at] * static_cast<float>(kLog2e);
        out[half] = static_cast<float>(-sum);
      }
    }
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    const bool same = expected[i] == x.stats[i] || std::fabs(expected[i] - x.stats[i]) < 1e-4f;
    expect(same, expected[i] == kUntouched ? "written where no token is" : "a wrong value", seed);
  }
}

}  // namespace
}  // namespace portattn

int main() {
  for (int seed = 0; seed < 500; ++seed) portattn::check(seed);
  return portattn::failures < 100 ? portattn::failures : 100;
}
