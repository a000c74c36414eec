// Proves the lane maps of MFMA on the CPU, those of gfx942 or, compiled with __gfx950__, of gfx950: every map is a
// bijection, a matrix instruction simulated on the fragments gives A . B, p in its accumulators is an operand as it
// stands, lanes share Philox calls as the dropout expects, and shared tiles are bijections that are read without bank
// conflicts. Prints what is wrong, exits with its count.
#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "arch/gfx942/layout.cuh"
#include "lane_map_proofs.h"

namespace portattn::gfx942 {
namespace {

// ---- MFMA 16 x 16 -----------------------------------------------------------------------------------------------

// D[i, j] += sum of A[i, k] B[k, j], where lane 16 g + i gives A[i, k] and lane 16 g + j gives B[k, j] for the k of
// group g: `Elements` of them, whether the instruction is 16x16x4 (one), 16x16x16 (four) or 16x16x32 (eight). Lane
// 16 g + j gets D[4 g + e, j] in register e.
template <int Elements>
using Operand = std::array<std::array<int, Elements>, kLanes>;
using Registers = std::array<std::array<int, 4>, kLanes>;

template <int Elements>
void mfma(const Operand<Elements>& a, const Operand<Elements>& b, Registers& d) {
  for (int i = 0; i < kBlock; ++i) {
    for (int j = 0; j < kBlock; ++j) {
      int sum = 0;
      for (int g = 0; g < kLanes / kBlock; ++g) {
        for (int e = 0; e < Elements; ++e) sum += a[16 * g + i][e] * b[16 * g + j][e];
      }
      d[16 * (i / 4) + j][i % 4] += sum;
    }
  }
}

int left(int row, int k) { return 1 + row * 17 + k * 3; }
int right(int k, int col) { return 2 + k * 5 + col * 7; }

// A tile's product as arch/gfx942/mma.cuh computes it; k_of(lane, step, e) is the k of an operand's element.
template <int M, int N, class Acc, int Depth, int Elements, class KOf>
void prove_product(const char* name, KOf k_of) {
  std::vector<Registers> acc(M / kBlock * (N / kBlock), Registers{});
  for (int step = 0; step < Depth / (4 * Elements); ++step) {
    for (int m = 0; m < M / kBlock; ++m) {
      for (int n = 0; n < N / kBlock; ++n) {
        Operand<Elements> a, b;
        for (int lane = 0; lane < kLanes; ++lane) {
          for (int e = 0; e < Elements; ++e) {
            const int k = k_of(lane, step, e);
            a[lane][e] = right(k, Acc::Cols::place(lane % kBlock, n));
            b[lane][e] = left(Acc::Rows::place(lane % kBlock, m), k);
          }
        }
        mfma<Elements>(a, b, acc[m * (N / kBlock) + n]);
      }
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int s = 0; s < Acc::kRowSlots; ++s) {
      for (int c = 0; c < Acc::kColSlots; ++c) {
        int truth = 0;
        for (int k = 0; k < Depth; ++k) truth += left(Acc::row(lane, s), k) * right(k, Acc::col(lane, c));
        const int index = Acc::index(s, c);
        expect(acc[index / 4][lane][index % 4] == truth, name, lane, index);
      }
    }
  }
}

template <int M, int N, int Depth, int Elements>
void prove_products() {
  const auto in_order = [](int lane, int step, int e) { return fragment_k<Elements>(lane, step) + e; };
  prove_product<M, N, AccLayout<M, N>, Depth, Elements>("scores of shared tiles", in_order);
  prove_product<M, N, ResultLayout<M, N>, Depth, Elements>("product of shared tiles", in_order);
  // p as left operand: element e of a step is a column slot, and the right operand follows.
  prove_product<M, N, ResultLayout<M, N>, Depth, Elements>(
      "product with p", [](int lane, int step, int e) { return AccLayout<M, Depth>::col(lane, step * Elements + e); });
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int s = 0; s < M / kBlock; ++s) {
      expect(AccLayout<M, N>::row(lane, s) == ResultLayout<M, N>::row(lane, s), "rows of scores and results", lane, s);
    }
  }
}

// ---- MFMA 32 x 32 -----------------------------------------------------------------------------------------------

// D[i, j] += sum of A[i, k] B[k, j], k < 8: lane 32 h + i gives A[i, 4 h + e], lane 32 h + j gives B[4 h + e, j]; lane
// 32 h + j gets D[8 m + 4 h + e, j] in register 4 m + e.
using StripOperand = std::array<std::array<int, 4>, kLanes>;
using StripRegisters = std::array<std::array<int, 16>, kLanes>;

void mfma32(const StripOperand& a, const StripOperand& b, StripRegisters& d) {
  for (int i = 0; i < kStrip; ++i) {
    for (int j = 0; j < kStrip; ++j) {
      int sum = 0;
      for (int k = 0; k < 8; ++k) sum += a[32 * (k / 4) + i][k % 4] * b[32 * (k / 4) + j][k % 4];
      d[32 * (i / 4 % 2) + j][i / 8 * 4 + i % 4] += sum;
    }
  }
}

// Scores, transposed: A are 32 columns of the strip at a time, B its rows; k_of(lane, step, e) as above.
template <int N, int Depth, class KOf>
void prove_strip(const char* name, KOf k_of) {
  using Layout = StripLayout<kStrip, N>;
  for (int block = 0; block < N / 32; ++block) {
    StripRegisters d{};
    for (int step = 0; step < Depth / 8; ++step) {
      StripOperand a, b;
      for (int lane = 0; lane < kLanes; ++lane) {
        for (int e = 0; e < 4; ++e) {
          const int k = k_of(lane, step, e);
          a[lane][e] = right(k, block * 32 + lane % kStrip);
          b[lane][e] = left(Layout::row(lane, 0), k);
        }
      }
      mfma32(a, b, d);
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int r = 0; r < 16; ++r) {
        const int c = block * 16 + r;
        int truth = 0;
        for (int k = 0; k < Depth; ++k) truth += left(Layout::row(lane, 0), k) * right(k, Layout::col(lane, c));
        expect(d[lane][Layout::index(0, c) % 16] == truth, name, lane, c);
      }
    }
  }
}

template <int N, int Depth>
void prove_strips() {
  prove_accumulator<StripLayout, kStrip, N>(kLanes, "gfx942 StripLayout");
  prove_strip<N, Depth>("strip of rows", [](int lane, int step, int e) { return step * 8 + lane / kStrip * 4 + e; });
  // p as operand: registers 4 step .. 4 step + 3 of a strip's row, and the other operand follows.
  prove_strip<N, Depth>("strip with p",
                        [](int lane, int step, int e) { return StripLayout<kStrip, Depth>::col(lane, step * 4 + e); });
}

// Column slots from a multiple of 8 on share a call, and which word and half of it is theirs does not depend on the
// lane (attn/dropout.cuh).
template <int N>
void prove_philox_slots() {
  using Acc = AccLayout<16, N>;
  const auto call = [](int col) { return col / 32 * 4 + col / 2 % 4; };
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int c = 0; c < Acc::kColSlots; ++c) {
      const int col = Acc::col(lane, c), constant = Acc::col(0, c);
      expect(call(col) == call(Acc::col(lane, c / 8 * 8)), "one Philox call", lane, c);
      expect(col / 8 % 4 == constant / 8 % 4 && col % 2 == constant % 2, "word and half of a Philox call", lane, c);
    }
  }
}

// ---- LDS --------------------------------------------------------------------------------------------------------

// 32 banks of 4 bytes serve a wave in phases of lanes; reads of 16 bytes have phases of their own. See layout.cuh.
using Phases = std::vector<std::vector<int>>;

Phases consecutive(int lanes) {
  Phases phases(kLanes / lanes);
  for (int lane = 0; lane < kLanes; ++lane) phases[lane / lanes].push_back(lane);
  return phases;
}

Phases phases_of_read(int bytes) {
  if (bytes < 16) return consecutive(128 / bytes);
  Phases phases;
  for (int half = 0; half < kLanes; half += 32) {
    for (const auto& [first, second] : {std::pair{0, 20}, {4, 16}, {8, 28}, {12, 24}}) {
      std::vector<int> lanes;
      for (int i = 0; i < 4; ++i) lanes.push_back(half + first + i);
      for (int i = 0; i < 4; ++i) lanes.push_back(half + second + i);
      phases.push_back(lanes);
    }
  }
  return phases;
}

// The most accesses that one bank must serve in a phase: 1 is free of conflicts.
template <class Address>
int conflicts(const Phases& phases, int bytes, Address address) {
  int worst = 0;
  for (const std::vector<int>& lanes : phases) {
    std::map<int, std::set<int>> words;  // bank -> words
    for (int lane : lanes) {
      expect(address(lane) % bytes == 0, "alignment", lane, bytes);
      for (int word = address(lane) / 4; word < (address(lane) + bytes + 3) / 4; ++word) words[word % 32].insert(word);
    }
    for (const auto& [bank, at] : words) worst = std::max(worst, static_cast<int>(at.size()));
  }
  return worst;
}

// 16 bytes of k along the rows.
template <class T, int Cols, class Side>
void prove_reads_along_rows(const char* name) {
  constexpr int kElements = 16 / static_cast<int>(sizeof(T));
  for (int block = 0; block < Side::kGroups * Side::kWays; ++block) {
    for (int step = 0; step < Cols / (4 * kElements); ++step) {
      const int worst = conflicts(phases_of_read(16), 16, [&](int lane) {
        const int row = Side::place(lane % kBlock, block);
        return SmemLayout<T, Cols>::offset(row, fragment_k<kElements>(lane, step)) * static_cast<int>(sizeof(T));
      });
      expect(worst == 1, name, Cols, block);
    }
  }
}

// Calls prove(row_of) for every order of rows in which an operand is read across them: as the right operand of mma_nn
// and mma_tn, and as that of mma_rn; row_of(lane, e) is the row of element e.
template <class T, class Prove>
void for_orders_of_rows(Prove prove) {
  constexpr int kElements = 16 / static_cast<int>(sizeof(T)), kDepth = 64;
  for (int step = 0; step < kDepth / (4 * kElements); ++step) {
    prove([=](int lane, int e) { return fragment_k<kElements>(lane, step) + e; });
    prove([=](int lane, int e) { return AccLayout<16, kDepth>::col(lane, step * kElements + e); });
  }
}

// Pairs of columns, or one column.
template <class T, int Cols, class Side>
void prove_reads_across_rows(const char* name) {
  constexpr int kBytes = Side::kWays * static_cast<int>(sizeof(T));
  for_orders_of_rows<T>([&](auto row_of) {
    for (int e = 0; e < 16 / static_cast<int>(sizeof(T)); ++e) {
      for (int group = 0; group < Side::kGroups; ++group) {
        const int worst = conflicts(phases_of_read(kBytes), kBytes, [&](int lane) {
          const int col = Side::place(lane % kBlock, group * Side::kWays);
          return SmemLayout<T, Cols>::offset(row_of(lane, e), col) * static_cast<int>(sizeof(T));
        });
        expect(worst == 1, name, Cols, group);
      }
    }
  });
}

// Reads that transpose (ds_read_b64_tr_b16): 16 lanes name four elements each; lane 4 q + r of them gets the r-th
// elements that lanes q, q + 4, q + 8 and q + 12 have named.
template <class T, int Cols, class Side>
void prove_transposing_reads(const char* name) {
  using Layout = SmemLayout<T, Cols>;
  for_orders_of_rows<T>([&](auto row_of) {
    for (int e = 0; e < 8; e += 4) {
      for (int block = 0; block < Side::kGroups; ++block) {
        const auto named = [&](int lane) {
          return Layout::offset(row_of(lane, e + lane % kBlock / 4), Side::place(lane % 4 * 4, block));
        };
        expect(conflicts(phases_of_read(8), 8, [&](int lane) { return named(lane) * 2; }) == 1, name, Cols, block);
        for (int lane = 0; lane < kLanes; ++lane) {
          for (int i = 0; i < 4; ++i) {
            const int got = named(lane / 16 * 16 + lane % 16 / 4 + 4 * i) + lane % 4;
            expect(got == Layout::offset(row_of(lane, e + i), Side::place(lane % kBlock, block)), name, lane, i);
          }
        }
      }
    }
  });
}

template <class T, int Cols, class Side>
void prove_reads_of_side() {
  if constexpr (Side::kInOrder && sizeof(T) == 2) {
    prove_transposing_reads<T, Cols, Side>("transposing reads");
  } else {
    prove_reads_across_rows<T, Cols, Side>("reads across rows");
  }
}

// Threads copy rows of 16-byte chunks without a conflict. Pairs of accumulators of 16 rows meet: a bank has two (four
// where rows are in order, or not whole lines of 128 bytes) to store.
template <class T, int Cols>
void prove_writes() {
  using Layout = SmemLayout<T, Cols>;
  for (int first = 0; first < 64 * Layout::kChunks; first += kLanes) {
    const int worst = conflicts(consecutive(8), 16, [&](int lane) {
      const int row = (first + lane) / Layout::kChunks, chunk = (first + lane) % Layout::kChunks;
      return Layout::chunk_offset(row, chunk) * static_cast<int>(sizeof(T));
    });
    expect(worst == 1, "copies into a tile", Cols, first);
  }
  using Acc = AccLayout<32, Cols>;
  constexpr int kBytes = 2 * static_cast<int>(sizeof(T));
  for (int s = 0; s < Acc::kRowSlots; ++s) {
    for (int c = 0; c < Acc::kColSlots; c += 2) {
      const int worst = conflicts(consecutive(128 / kBytes), kBytes, [&](int lane) {
        return Layout::offset(Acc::row(lane, s), Acc::col(lane, c)) * static_cast<int>(sizeof(T));
      });
      expect(worst <= (Layout::kChunks % 8 == 0 && !Acc::Rows::kInOrder ? 2 : 4), "accumulators into a tile", Cols, c);
    }
  }
}

template <class T, int Cols>
void prove_tile() {
  prove_bijection<SmemLayout<T, Cols>, Cols>("SmemLayout");
  prove_reads_along_rows<T, Cols, typename AccLayout<16, 16>::Rows>("rows of 16 along");
  prove_reads_along_rows<T, Cols, typename AccLayout<64, 16>::Rows>("rows of 64 along");
  prove_reads_along_rows<T, Cols, typename AccLayout<16, 48>::Cols>("columns of 48 along");
  prove_reads_along_rows<T, Cols, typename AccLayout<16, 64>::Cols>("columns of 64 along");
  prove_reads_of_side<T, Cols, typename ResultLayout<32, 16>::Rows>();
  prove_reads_of_side<T, Cols, typename ResultLayout<16, Cols>::Cols>();
  prove_writes<T, Cols>();
}

#if defined(__gfx950__)
constexpr int kScratchRun = 16;
#else
constexpr int kScratchRun = 64;
#endif

// A pair of columns and a row slot: the lanes of one group of 16 rows add to runs of contiguous memory, and to the
// strip of eight columns that the layout names.
void prove_scratch_is_contiguous() {
  using Dq = ResultLayout<32, 8 * 4>;
  for (int s = 0; s < Dq::kRowSlots; ++s) {
    for (int c = 0; c < Dq::kColSlots; c += 2) {
      std::map<int, std::set<int>> offsets;  // group -> what its lanes add to
      for (int lane = 0; lane < kLanes; ++lane) {
        const int row = Dq::row(lane, s);
        for (int e = 0; e < 2; ++e) {
          const int col = Dq::col(lane, c + e);
          offsets[row / 16].insert(ScratchLayout::offset(row % 16, col));
          expect(Dq::strip(lane, c + e) == col / 8, "strip of columns", lane, c + e);
          const int apart =
              ScratchLayout::offset(row % 16, Dq::col(lane, 0)) + ScratchLayout::offset(0, Dq::col(0, c + e));
          expect(apart == ScratchLayout::offset(row % 16, col), "scratch offset of lane and slot", lane, c + e);
        }
      }
      for (const auto& [group, at] : offsets) {
        for (int first : at) {
          for (int i = 0; first % kScratchRun == 0 && i < kScratchRun; ++i) {
            expect(at.count(first + i) == 1, "contiguous scratch", s, c);
          }
        }
        expect(at.size() % kScratchRun == 0, "contiguous scratch", s, c);
      }
    }
  }
}

template <int M, int N>
void prove_accumulators() {
  prove_accumulator<AccLayout, M, N>(kLanes, "AccLayout");
  prove_accumulator<ResultLayout, M, N>(kLanes, "ResultLayout");
}

}  // namespace
}  // namespace portattn::gfx942

int main() {
  using namespace portattn;
  using namespace portattn::gfx942;
  prove_accumulators<16, 16>();
  prove_accumulators<16, 48>();
  prove_accumulators<16, 256>();
  prove_accumulators<32, 32>();
  prove_accumulators<48, 96>();
  prove_accumulators<64, 128>();
  prove_products<16, 16, 16, 4>();
  prove_products<16, 48, 32, 8>();
  prove_products<32, 64, 64, 8>();
  prove_products<32, 32, 16, 4>();
  prove_products<64, 96, 32, 4>();
  prove_strips<32, 32>();
  prove_strips<64, 128>();
  prove_strips<128, 64>();
  prove_philox_slots<16>();
  prove_philox_slots<64>();
  prove_philox_slots<128>();
  prove_tile<uint16_t, 32>();
  prove_tile<uint16_t, 64>();
  prove_tile<uint16_t, 96>();
  prove_tile<uint16_t, 128>();
  prove_tile<uint16_t, 192>();
  prove_tile<uint16_t, 256>();
  prove_tile<float, 32>();
  prove_tile<float, 64>();
  prove_tile<float, 96>();
  prove_tile<float, 128>();
  prove_bijection<SmemLayout<uint16_t, 16>, 16>("SmemLayout");
  prove_bijection<SmemLayout<float, 16>, 16>("SmemLayout");
  prove_bijection<SmemLayout<double, 64>, 64>("SmemLayout");
  prove_scratch<ScratchLayout>("gfx942 ScratchLayout");
  prove_scratch_is_contiguous();
  return failures < 100 ? failures : 100;
}
