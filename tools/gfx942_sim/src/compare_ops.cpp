// v_cmp_* and v_cmpx_*: every relation of every type.
#include "float_math.h"
#include "lane_op.h"

namespace gfxsim {
namespace {

// Both the plain comparison and the one that also writes EXEC.
template <class F>
void add(const std::string& relation, const std::string& type, F function, std::vector<LaneOp>* ops) {
  ops->push_back(lane_op("v_cmp_" + relation + "_" + type, function));
  ops->push_back(lane_op("v_cmpx_" + relation + "_" + type, function));
}

template <class T>
void add_order(const std::string& type, std::vector<LaneOp>* ops) {
  add("f", type, [](T, T) { return Flag{false}; }, ops);
  add("lt", type, [](T a, T b) { return Flag{a < b}; }, ops);
  add("eq", type, [](T a, T b) { return Flag{a == b}; }, ops);
  add("le", type, [](T a, T b) { return Flag{a <= b}; }, ops);
  add("gt", type, [](T a, T b) { return Flag{a > b}; }, ops);
  add("ge", type, [](T a, T b) { return Flag{a >= b}; }, ops);
}

template <class T>
void add_integer(const std::string& type, std::vector<LaneOp>* ops) {
  add_order<T>(type, ops);
  add("ne", type, [](T a, T b) { return Flag{a != b}; }, ops);
  add("t", type, [](T, T) { return Flag{true}; }, ops);
}

template <class T>
void add_float(const std::string& type, std::vector<LaneOp>* ops) {
  add_order<T>(type, ops);
  add("lg", type, [](T a, T b) { return Flag{a < b || a > b}; }, ops);
  add("o", type, [](T a, T b) { return Flag{a == a && b == b}; }, ops);
  add("u", type, [](T a, T b) { return Flag{a != a || b != b}; }, ops);
  add("nge", type, [](T a, T b) { return Flag{!(a >= b)}; }, ops);
  add("nlg", type, [](T a, T b) { return Flag{!(a < b || a > b)}; }, ops);
  add("ngt", type, [](T a, T b) { return Flag{!(a > b)}; }, ops);
  add("nle", type, [](T a, T b) { return Flag{!(a <= b)}; }, ops);
  add("neq", type, [](T a, T b) { return Flag{!(a == b)}; }, ops);
  add("nlt", type, [](T a, T b) { return Flag{!(a < b)}; }, ops);
  add("tru", type, [](T, T) { return Flag{true}; }, ops);
  add("class", type, [](T a, uint32_t classes) { return Flag{(float_class(a) & classes) != 0}; }, ops);
}

}  // namespace

std::vector<LaneOp> compare_ops() {
  std::vector<LaneOp> ops;
  add_integer<uint16_t>("u16", &ops);
  add_integer<int16_t>("i16", &ops);
  add_integer<uint32_t>("u32", &ops);
  add_integer<int32_t>("i32", &ops);
  add_integer<uint64_t>("u64", &ops);
  add_integer<int64_t>("i64", &ops);
  add_float<Half>("f16", &ops);
  add_float<float>("f32", &ops);
  add_float<double>("f64", &ops);
  return ops;
}

}  // namespace gfxsim
