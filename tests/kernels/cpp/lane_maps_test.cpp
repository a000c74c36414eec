// Proves the lane maps of the host arch and of mma.sync (sm_80, sm_90) on the CPU: every map is a bijection, a matrix
// instruction simulated on the fragments gives A . B, ldmatrix addresses deliver exactly those fragments, and swizzled
// shared tiles are bijections that eight rows read without bank conflicts. Prints what is wrong, exits with its count.
#include <cstdint>
#include <set>

#include "arch/host/layout.cuh"
#include "arch/sm80/layout.cuh"
#include "lane_map_proofs.h"

namespace portattn {
namespace {

// ---- mma.sync.m16n8k16 ------------------------------------------------------------------------------------------

constexpr int kLanes = 32;

int a_value(int row, int k) { return 1 + row * 17 + k * 3; }
int b_value(int k, int col) { return 2 + k * 5 + col * 7; }

// The instruction as PTX defines it: D[i, j] += sum over k of A[i, k] * B[k, j], operands found through the fragments.
void prove_mma() {
  int a[16][16] = {}, b[16][8] = {}, count_a[16][16] = {}, count_b[16][8] = {};
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int e = 0; e < 2; ++e) {
      for (int r = 0; r < 4; ++r) {
        const int row = sm80::FragA::row(lane, r), k = sm80::FragA::k(lane, r, e);
        a[row][k] = a_value(row, k);
        ++count_a[row][k];
      }
      for (int r = 0; r < 2; ++r) {
        const int k = sm80::FragB::k(lane, r, e), col = sm80::FragB::col(lane, r);
        b[k][col] = b_value(k, col);
        ++count_b[k][col];
      }
    }
  }
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) expect(count_a[i][k] == 1, "FragA bijection", i, k);
    for (int j = 0; j < 8; ++j) expect(count_b[i][j] == 1, "FragB bijection", i, j);
  }
  using Acc = sm80::AccLayout<16, 8>;
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int s = 0; s < 2; ++s) {
      for (int c = 0; c < 2; ++c) {
        const int row = Acc::row(lane, s), col = Acc::col(lane, c);
        // PTX: c0, c1 at row lane / 4, c2, c3 eight rows below; columns lane % 4 * 2 + {0, 1}.
        expect(Acc::index(s, c) == s * 2 + c && row == lane / 4 + 8 * s && col == lane % 4 * 2 + c, "mma C registers",
               lane, s);
        int sum = 0, truth = 0;
        for (int k = 0; k < 16; ++k) {
          sum += a[row][k] * b[k][col];
          truth += a_value(row, k) * b_value(k, col);
        }
        expect(sum == truth, "simulated mma", row, col);
      }
    }
  }
}

// An accumulator tile is an A operand as it stands: slots (2m + r % 2, 4k + r / 2 * 2 + e) are FragA's register r.
void prove_accumulator_is_operand() {
  using P = sm80::AccLayout<32, 64>;
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int m = 0; m < 2; ++m) {
      for (int k = 0; k < 4; ++k) {
        for (int r = 0; r < 4; ++r) {
          for (int e = 0; e < 2; ++e) {
            const int row = P::row(lane, 2 * m + r % 2), col = P::col(lane, 4 * k + r / 2 * 2 + e);
            expect(row == m * 16 + sm80::FragA::row(lane, r) && col == k * 16 + sm80::FragA::k(lane, r, e),
                   "accumulator as A operand", row, col);
          }
        }
      }
    }
  }
}

// ---- ldmatrix.x4 ------------------------------------------------------------------------------------------------

struct Element {
  int row, col;
};

// What half e of register r of a lane holds after ldmatrix: lane l gives the row address of row l % 8 of matrix l / 8.
template <class Map, bool Trans>
Element loaded(int lane, int r, int e) {
  const int row = Trans ? lane % 4 * 2 + e : lane / 4;
  const int col = Trans ? lane / 4 : lane % 4 * 2 + e;
  const int source = r * 8 + row;
  return Element{Map::row(source), Map::col(source) + col};
}

void prove_ldmatrix() {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int r = 0; r < 4; ++r) {
      for (int e = 0; e < 2; ++e) {
        const int m = sm80::FragA::row(lane, r), k = sm80::FragA::k(lane, r, e);
        Element got = loaded<sm80::LdmatrixA, false>(lane, r, e);
        expect(got.row == m && got.col == k, "LdmatrixA", lane, r);
        got = loaded<sm80::LdmatrixTransA, true>(lane, r, e);
        expect(got.row == k && got.col == m, "LdmatrixTransA", lane, r);
        // Registers 0, 1 are the fragment of columns 0..7 of B, registers 2, 3 that of columns 8..15.
        const int n = r / 2 * 8 + sm80::FragB::col(lane, r % 2), kb = sm80::FragB::k(lane, r % 2, e);
        got = loaded<sm80::LdmatrixB, false>(lane, r, e);
        expect(got.row == n && got.col == kb, "LdmatrixB", lane, r);
        got = loaded<sm80::LdmatrixTransB, true>(lane, r, e);
        expect(got.row == kb && got.col == n, "LdmatrixTransB", lane, r);
      }
    }
  }
}

// ---- shared memory ----------------------------------------------------------------------------------------------

// The rows of one 8 x 8 matrix are eight 16-byte chunks; without conflict they cover all 32 banks of 4 bytes.
template <class T, int Cols>
void prove_swizzle() {
  using Layout = sm80::SmemLayout<T, Cols>;
  prove_bijection<Layout, Cols>("sm80 SmemLayout");
  prove_bijection<host::SmemLayout<T, Cols>, Cols>("host SmemLayout");
  for (int row = 0; row < 64; row += 8) {
    for (int col = 0; col < Cols; col += Layout::kChunk) {
      std::set<int> bank_groups;
      for (int r = 0; r < 8; ++r) {
        const int bytes = Layout::offset(row + r, col) * static_cast<int>(sizeof(T));
        expect(bytes % 16 == 0, "16-byte chunk", row + r, col);
        bank_groups.insert(bytes / 16 % 8);
      }
      expect(bank_groups.size() == 8, "conflict-free ldmatrix", row, Cols);
    }
  }
}

// The four elements of a lane are neighbours.
void prove_scratch_is_contiguous() {
  using Acc = sm80::AccLayout<16, 8>;
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int s = 0; s < 2; ++s) {
      for (int c = 0; c < 2; ++c) {
        const int offset = sm80::ScratchLayout::offset(Acc::row(lane, s), Acc::col(lane, c));
        expect(offset == lane * 4 + Acc::index(s, c), "contiguous scratch", lane, s);
      }
    }
  }
}

template <int M, int N>
void prove_accumulators() {
  prove_accumulator<host::AccLayout, M, N>(1, "host AccLayout");
  prove_accumulator<sm80::AccLayout, M, N>(kLanes, "sm80 AccLayout");
}

}  // namespace
}  // namespace portattn

int main() {
  using namespace portattn;
  prove_accumulators<16, 8>();
  prove_accumulators<16, 64>();
  prove_accumulators<16, 256>();
  prove_accumulators<32, 32>();
  prove_accumulators<64, 128>();
  prove_mma();
  prove_accumulator_is_operand();
  prove_ldmatrix();
  prove_scratch<host::ScratchLayout>("host ScratchLayout");
  prove_scratch<sm80::ScratchLayout>("sm80 ScratchLayout");
  prove_scratch_is_contiguous();
  prove_swizzle<uint16_t, 16>();
  prove_swizzle<uint16_t, 32>();
  prove_swizzle<uint16_t, 64>();
  prove_swizzle<uint16_t, 96>();
  prove_swizzle<uint16_t, 128>();
  prove_swizzle<uint16_t, 192>();
  prove_swizzle<uint16_t, 256>();
  prove_swizzle<float, 32>();
  prove_swizzle<float, 64>();
  prove_swizzle<float, 96>();
  prove_swizzle<float, 128>();
  return failures < 100 ? failures : 100;
}
