// The scalar maths of kernels on the CPU: exp2 and tanh against libm over their whole range, edges included, and
// division by a run-time constant against division.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <limits>

#include "device/math.cuh"

namespace portattn {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
int failures = 0;

void expect(bool condition, const char* what, double x, double got) {
  if (condition) return;
  std::printf("%s(%.9g) = %.9g\n", what, x, got);
  ++failures;
}

void check_exp2() {
  for (float x = -126.f; x <= 127.f; x += 1.f / 1024 + 1e-5f) {
    const double truth = std::exp2(static_cast<double>(x)), got = fast_exp2(x);
    expect(std::abs(got - truth) <= 3e-7 * truth, "fast_exp2", x, got);
  }
  for (float x : {0.f, 1.f, -1.f, 10.f, -10.f}) expect(fast_exp2(x) == std::exp2(x), "fast_exp2", x, fast_exp2(x));
  for (float x : {-kInfinity, -1e30f, -200.f}) expect(fast_exp2(x) == 0.f, "fast_exp2", x, fast_exp2(x));
}

void check_tanh() {
  for (float x = -20.f; x <= 20.f; x += 1.f / 2048) {
    const double truth = std::tanh(static_cast<double>(x)), got = fast_tanh(x);
    expect(std::abs(got - truth) <= 1e-6 * std::abs(truth), "fast_tanh", x, got);
  }
  for (float x : {kInfinity, 1e30f, 100.f}) {
    expect(fast_tanh(x) == 1.f && fast_tanh(-x) == -1.f, "fast_tanh", x, fast_tanh(x));
  }
  expect(fast_tanh(0.f) == 0.f, "fast_tanh", 0, fast_tanh(0.f));
}

void check_divide(uint32_t divisor) {
  const FastDivisor fast = make_fast_divisor(divisor);
  const uint32_t top = INT32_MAX;
  for (uint32_t base : {0u, divisor, 7 * divisor, top / 2, top / divisor * divisor, top}) {
    for (int64_t n = int64_t{base} - 3; n <= int64_t{base} + 3; ++n) {
      if (n < 0 || n > top) continue;
      const int32_t got = fast_divide(static_cast<int32_t>(n), fast);
      expect(got == static_cast<int32_t>(n / divisor), "fast_divide", static_cast<double>(n), got);
    }
  }
}

}  // namespace
}  // namespace portattn

int main() {
  using namespace portattn;
  check_exp2();
  check_tanh();
  for (uint32_t divisor = 1; divisor <= 10000; ++divisor) check_divide(divisor);
  for (int bit = 14; bit < 30; ++bit) {
    for (int delta = -1; delta <= 1; ++delta) check_divide((1u << bit) + delta);
  }
  return failures < 100 ? failures : 100;
}
