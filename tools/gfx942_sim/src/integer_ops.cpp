// Integer and bitwise vector arithmetic.
#include "lane_op.h"

namespace gfxsim {
namespace {

uint32_t low24(uint32_t x) { return x & 0xffffff; }
int32_t signed24(int32_t x) { return static_cast<int32_t>(static_cast<uint32_t>(x) << 8) >> 8; }

// v_perm_b32: each byte of the selector picks a byte of {a, b}, a sign or a constant.
uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t{a} << 32 | b;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t pick = selector >> (8 * i) & 0xff;
    uint32_t byte = 0xff;
    if (pick < 8) byte = bytes >> (8 * pick) & 0xff;
    if (pick >= 8 && pick < 12) byte = (bytes >> (16 * (pick - 8) + 15) & 1) != 0 ? 0xff : 0;
    if (pick == 12) byte = 0;
    result |= byte << (8 * i);
  }
  return result;
}

// v_bitop3_b32: bit 4 a + 2 b + c of the table, for each bit of three operands.
uint32_t look_up_bits(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
  uint32_t result = 0;
  for (uint32_t i = 0; i < 8; ++i) {
    const uint32_t chosen = (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    if (table >> i & 1) result |= chosen;
  }
  return result;
}

uint32_t reverse_bits(uint32_t x) {
  x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
  x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
  x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
  return __builtin_bswap32(x);
}

template <class T>
T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
T larger(T a, T b) {
  return a > b ? a : b;
}
template <class T>
T middle(T a, T b, T c) {
  return larger(smaller(a, b), smaller(larger(a, b), c));
}

void add_moves(std::vector<LaneOp>* ops) {
  const auto copy = [](uint32_t a) { return a; };
  ops->insert(ops->end(), {
                              lane_op("v_mov_b32", copy),
                              lane_op("v_mov_b64", [](uint64_t a) { return a; }),
                              of_class(GFXSIM_CLASS_ACC_MOVE, lane_op("v_accvgpr_write_b32", copy)),
                              of_class(GFXSIM_CLASS_ACC_MOVE, lane_op("v_accvgpr_read_b32", copy)),
                              of_class(GFXSIM_CLASS_ACC_MOVE, lane_op("v_accvgpr_mov_b32", copy)),
                              lane_op("v_cndmask_b32", [](uint32_t a, uint32_t b, Flag c) { return c.set ? b : a; }),
                          });
}

void add_bits(std::vector<LaneOp>* ops) {
  const std::vector<LaneOp> more = {
      lane_op("v_not_b32", [](uint32_t a) { return ~a; }),
      lane_op("v_and_b32", [](uint32_t a, uint32_t b) { return a & b; }),
      lane_op("v_or_b32", [](uint32_t a, uint32_t b) { return a | b; }),
      lane_op("v_xor_b32", [](uint32_t a, uint32_t b) { return a ^ b; }),
      lane_op("v_xnor_b32", [](uint32_t a, uint32_t b) { return ~(a ^ b); }),
      lane_op("v_or3_b32", [](uint32_t a, uint32_t b, uint32_t c) { return a | b | c; }),
      lane_op("v_and_or_b32", [](uint32_t a, uint32_t b, uint32_t c) { return (a & b) | c; }),
      lane_op("v_lshl_or_b32", [](uint32_t a, uint32_t b, uint32_t c) { return a << (b & 31) | c; }),
      lane_op("v_lshlrev_b32", [](uint32_t a, uint32_t b) { return b << (a & 31); }),
      lane_op("v_lshrrev_b32", [](uint32_t a, uint32_t b) { return b >> (a & 31); }),
      lane_op("v_ashrrev_i32", [](uint32_t a, int32_t b) { return b >> (a & 31); }),
      lane_op("v_lshlrev_b64", [](uint32_t a, uint64_t b) { return b << (a & 63); }),
      lane_op("v_lshrrev_b64", [](uint32_t a, uint64_t b) { return b >> (a & 63); }),
      lane_op("v_ashrrev_i64", [](uint32_t a, int64_t b) { return b >> (a & 63); }),
      lane_op("v_bfrev_b32", [](uint32_t a) { return reverse_bits(a); }),
      lane_op("v_ffbh_u32", [](uint32_t a) { return a == 0 ? ~0u : static_cast<uint32_t>(__builtin_clz(a)); }),
      lane_op("v_ffbh_i32",
              [](int32_t a) {
                const int32_t flipped = a < 0 ? ~a : a;
                return flipped == 0 ? -1 : __builtin_clz(static_cast<uint32_t>(flipped));
              }),
      lane_op("v_ffbl_b32", [](uint32_t a) { return a == 0 ? ~0u : static_cast<uint32_t>(__builtin_ctz(a)); }),
      lane_op("v_bfe_u32", [](uint32_t a, uint32_t b, uint32_t c) { return a >> (b & 31) & ((1u << (c & 31)) - 1); }),
      lane_op("v_bfe_i32",
              [](int32_t a, uint32_t b, uint32_t c) {
                const uint32_t bits = c & 31;
                if (bits == 0) return 0;
                return static_cast<int32_t>(static_cast<uint32_t>(a >> (b & 31)) << (32 - bits)) >> (32 - bits);
              }),
      lane_op("v_bfi_b32", [](uint32_t a, uint32_t b, uint32_t c) { return (a & b) | (~a & c); }),
      lane_op("v_bfm_b32", [](uint32_t a, uint32_t b) { return ((1u << (a & 31)) - 1) << (b & 31); }),
      reading_table(lane_op("v_bitop3_b32", [](uint32_t a, uint32_t b, uint32_t c,
                                               uint32_t table) { return look_up_bits(a, b, c, table); })),
      lane_op("v_perm_b32", [](uint32_t a, uint32_t b, uint32_t c) { return permute_bytes(a, b, c); }),
      lane_op("v_alignbit_b32", [](uint32_t a, uint32_t b,
                                   uint32_t c) { return static_cast<uint32_t>((uint64_t{a} << 32 | b) >> (c & 31)); }),
      lane_op("v_alignbyte_b32",
              [](uint32_t a, uint32_t b, uint32_t c) {
                return static_cast<uint32_t>((uint64_t{a} << 32 | b) >> (8 * (c & 3)));
              }),
      lane_op("v_bcnt_u32_b32",
              [](uint32_t a, uint32_t b) { return static_cast<uint32_t>(__builtin_popcount(a)) + b; }),
  };
  ops->insert(ops->end(), more.begin(), more.end());
}

void add_sums(std::vector<LaneOp>* ops) {
  const std::vector<LaneOp> more = {
      lane_op("v_add_u32", [](uint32_t a, uint32_t b) { return a + b; }),
      lane_op("v_sub_u32", [](uint32_t a, uint32_t b) { return a - b; }),
      lane_op("v_subrev_u32", [](uint32_t a, uint32_t b) { return b - a; }),
      lane_op("v_add3_u32", [](uint32_t a, uint32_t b, uint32_t c) { return a + b + c; }),
      lane_op("v_lshl_add_u32", [](uint32_t a, uint32_t b, uint32_t c) { return (a << (b & 31)) + c; }),
      lane_op("v_add_lshl_u32", [](uint32_t a, uint32_t b, uint32_t c) { return (a + b) << (c & 31); }),
      lane_op("v_lshl_add_u64", [](uint64_t a, uint32_t b, uint64_t c) { return (a << (b & 7)) + c; }),
      lane_op("v_xad_u32", [](uint32_t a, uint32_t b, uint32_t c) { return (a ^ b) + c; }),
      lane_op("v_sad_u32", [](uint32_t a, uint32_t b, uint32_t c) { return (a > b ? a - b : b - a) + c; }),
      lane_op("v_add_co_u32", [](uint32_t a, uint32_t b) { return Flagged<uint32_t>{a + b, a + b < a}; }),
      lane_op("v_sub_co_u32", [](uint32_t a, uint32_t b) { return Flagged<uint32_t>{a - b, a < b}; }),
      lane_op("v_subrev_co_u32", [](uint32_t a, uint32_t b) { return Flagged<uint32_t>{b - a, b < a}; }),
      lane_op("v_addc_co_u32",
              [](uint32_t a, uint32_t b, Flag carry) {
                const uint64_t sum = uint64_t{a} + b + carry.set;
                return Flagged<uint32_t>{static_cast<uint32_t>(sum), sum >> 32 != 0};
              }),
      lane_op("v_subb_co_u32",
              [](uint32_t a, uint32_t b, Flag borrow) {
                return Flagged<uint32_t>{a - b - borrow.set, a < uint64_t{b} + borrow.set};
              }),
      lane_op("v_subbrev_co_u32",
              [](uint32_t a, uint32_t b, Flag borrow) {
                return Flagged<uint32_t>{b - a - borrow.set, b < uint64_t{a} + borrow.set};
              }),
      lane_op("v_min_u32", [](uint32_t a, uint32_t b) { return smaller(a, b); }),
      lane_op("v_max_u32", [](uint32_t a, uint32_t b) { return larger(a, b); }),
      lane_op("v_min_i32", [](int32_t a, int32_t b) { return smaller(a, b); }),
      lane_op("v_max_i32", [](int32_t a, int32_t b) { return larger(a, b); }),
      lane_op("v_min3_u32", [](uint32_t a, uint32_t b, uint32_t c) { return smaller(smaller(a, b), c); }),
      lane_op("v_max3_u32", [](uint32_t a, uint32_t b, uint32_t c) { return larger(larger(a, b), c); }),
      lane_op("v_min3_i32", [](int32_t a, int32_t b, int32_t c) { return smaller(smaller(a, b), c); }),
      lane_op("v_max3_i32", [](int32_t a, int32_t b, int32_t c) { return larger(larger(a, b), c); }),
      lane_op("v_med3_i32", [](int32_t a, int32_t b, int32_t c) { return middle(a, b, c); }),
      lane_op("v_med3_u32", [](uint32_t a, uint32_t b, uint32_t c) { return middle(a, b, c); }),
  };
  ops->insert(ops->end(), more.begin(), more.end());
}

void add_products(std::vector<LaneOp>* ops) {
  const std::vector<LaneOp> more = {
      lane_op("v_mul_lo_u32", [](uint32_t a, uint32_t b) { return a * b; }),
      lane_op("v_mul_hi_u32", [](uint32_t a, uint32_t b) { return static_cast<uint32_t>(uint64_t{a} * b >> 32); }),
      lane_op("v_mul_hi_i32", [](int32_t a, int32_t b) { return static_cast<int32_t>(int64_t{a} * b >> 32); }),
      lane_op("v_mul_u32_u24", [](uint32_t a, uint32_t b) { return low24(a) * low24(b); }),
      lane_op("v_mul_i32_i24",
              [](int32_t a, int32_t b) { return static_cast<int32_t>(int64_t{signed24(a)} * signed24(b)); }),
      lane_op("v_mul_hi_u32_u24",
              [](uint32_t a, uint32_t b) { return static_cast<uint32_t>(uint64_t{low24(a)} * low24(b) >> 32); }),
      lane_op("v_mul_hi_i32_i24",
              [](int32_t a, int32_t b) { return static_cast<int32_t>(int64_t{signed24(a)} * signed24(b) >> 32); }),
      lane_op("v_mad_u32_u24", [](uint32_t a, uint32_t b, uint32_t c) { return low24(a) * low24(b) + c; }),
      lane_op("v_mad_i32_i24", [](int32_t a, int32_t b,
                                  int32_t c) { return static_cast<int32_t>(int64_t{signed24(a)} * signed24(b) + c); }),
      lane_op("v_mad_u64_u32",
              [](uint32_t a, uint32_t b, uint64_t c) {
                const uint64_t sum = uint64_t{a} * b + c;
                return Flagged<uint64_t>{sum, sum < c};
              }),
      lane_op("v_mad_i64_i32",
              [](int32_t a, int32_t b, int64_t c) {
                int64_t sum;
                const bool overflow = __builtin_add_overflow(int64_t{a} * b, c, &sum);
                return Flagged<int64_t>{sum, overflow};
              }),
  };
  ops->insert(ops->end(), more.begin(), more.end());
}

}  // namespace

std::vector<LaneOp> integer_ops() {
  std::vector<LaneOp> ops;
  add_moves(&ops);
  add_bits(&ops);
  add_sums(&ops);
  add_products(&ops);
  return ops;
}

std::vector<LaneOp> narrow_integer_ops() {
  using U = uint16_t;
  using I = int16_t;
  const auto multiply_add = [](U a, U b, U c) { return static_cast<U>(uint32_t{a} * b + c); };
  return {
      lane_op("v_add_u16", [](U a, U b) { return static_cast<U>(a + b); }),
      lane_op("v_sub_u16", [](U a, U b) { return static_cast<U>(a - b); }),
      lane_op("v_subrev_u16", [](U a, U b) { return static_cast<U>(b - a); }),
      lane_op("v_mul_lo_u16", [](U a, U b) { return static_cast<U>(uint32_t{a} * b); }),
      lane_op("v_lshlrev_b16", [](U a, U b) { return static_cast<U>(b << (a & 15)); }),
      lane_op("v_lshrrev_b16", [](U a, U b) { return static_cast<U>(b >> (a & 15)); }),
      lane_op("v_ashrrev_i16", [](U a, I b) { return static_cast<I>(b >> (a & 15)); }),
      lane_op("v_max_u16", [](U a, U b) { return larger(a, b); }),
      lane_op("v_min_u16", [](U a, U b) { return smaller(a, b); }),
      lane_op("v_max_i16", [](I a, I b) { return larger(a, b); }),
      lane_op("v_min_i16", [](I a, I b) { return smaller(a, b); }),
      lane_op("v_mad_legacy_u16", multiply_add),
      keeping_high_half(lane_op("v_mad_u16", multiply_add)),
  };
}

}  // namespace gfxsim
