// A problem for kernels on the model: sequences of random lengths, dense or packed with padding, and tensors of them.
#pragma once

#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "attn/seqlen_info.cuh"
#include "model.h"

namespace portattn::model {

struct Shape {
  bool is_thd, causal;
  int32_t batch, len_q, len_kv;  // the longest, for thd
  int32_t heads_q, heads_kv;
};

// Tiles that are cut off by either length, tiles with one query tile and with several, queries without keys, heads that
// share keys, padding between sequences.
inline const Shape kShapes[] = {
    {false, false, 1, 130, 140, 2, 1},
    {false, true, 2, 200, 200, 1, 1},
    {true, true, 4, 150, 150, 2, 2},
    {true, false, 5, 90, 300, 2, 1},
};

// One side's sequences, one after the other as the kernel sees them.
struct Side {
  std::vector<SeqSpan> spans;
  std::vector<TileRef> tiles;
  int32_t num_tiles = 0;
  SeqSide side;

  Side(const Shape& shape, const std::vector<int32_t>& lengths, std::mt19937& random, int32_t tile_rows) {
    int32_t next = shape.is_thd ? random() % 3 : 0;
    for (int32_t len : lengths) {
      const int32_t slot = len + (shape.is_thd ? random() % 3 : 0);
      spans.push_back(SeqSpan{next, len, slot});
      next += slot;
    }
    for (int32_t seq = 0; seq < shape.batch; ++seq) {
      for (int32_t block = ceil_div(spans[seq].slot_len, tile_rows); block > 0; --block) {
        tiles.push_back(TileRef{seq, block - 1});
      }
    }
    num_tiles = static_cast<int32_t>(tiles.size());
    side.is_thd = shape.is_thd;
    side.seqlen = shape.is_thd ? next + 1 : lengths[0];
    if (shape.is_thd) side.plan = SidePlan{spans.data(), tiles.data(), &num_tiles};
  }
  int64_t first(int32_t seq) const { return side.is_thd ? spans[seq].start : seq * side.seqlen; }
  int64_t rows(int32_t batch) const { return side.seqlen * (side.is_thd ? 1 : batch); }
};

// Memory as a GPU gives it out.
template <class T>
struct Aligned {
  std::vector<T> storage;
  T* data;
  Aligned(int64_t count, T value) : storage(count + 256 / sizeof(T), value) {
    const uintptr_t first = reinterpret_cast<uintptr_t>(storage.data());
    data = storage.data() + (256 - first % 256) % 256 / sizeof(T);
  }
};

inline std::vector<int32_t> draw_lengths(const Shape& shape, int32_t longest, std::mt19937& random) {
  std::vector<int32_t> lengths(shape.batch, longest);
  if (shape.is_thd) {
    for (int32_t& len : lengths) len = random() % (longest + 1);
  }
  return lengths;
}

template <class T>
struct Tensor {
  int32_t heads, dim;
  int64_t batch_rows;
  Aligned<T> values;

  Tensor(const Side& side, int32_t batch, int32_t num_heads, int32_t head_dim)
      : heads(num_heads),
        dim(head_dim),
        batch_rows(side.side.is_thd ? 0 : side.side.seqlen),
        values(side.rows(batch) * num_heads * head_dim, from_acc<T>(NAN)) {}

  // Padding stays NaN.
  void draw(const Side& side, std::mt19937& random) {
    for (size_t seq = 0; seq < side.spans.size(); ++seq) {
      const int64_t first = side.first(static_cast<int32_t>(seq));
      T* end = row(first + side.spans[seq].len, 0);
      for (T* x = row(first, 0); x < end; ++x) *x = from_acc<T>(std::normal_distribution<float>()(random));
    }
  }
  T* row(int64_t token, int32_t head) { return values.data + (token * heads + head) * dim; }
  TensorView view() { return TensorView{values.data, batch_rows * heads * dim, int64_t{heads} * dim, dim}; }
};

template <class T>
double dot(const T* a, const T* b, int32_t dim) {
  double sum = 0;
  for (int32_t d = 0; d < dim; ++d) sum += double{to_float(a[d])} * to_float(b[d]);
  return sum;
}

// NaN is as wrong as can be.
inline double distance(double got, double expected) {
  const double error = std::fabs(got - expected);
  return std::isnan(error) ? INFINITY : error;
}

// What both sides of a problem are drawn from; tiles are planned of either queries or keys.
struct Sequences {
  Shape shape;
  std::mt19937 random;
  std::vector<int32_t> lengths_q, lengths_kv;
  Side q, kv;

  Sequences(const Shape& the_shape, int32_t tile_rows_q, int32_t tile_rows_kv, uint32_t seed)
      : shape(the_shape),
        random(seed),
        lengths_q(draw_lengths(shape, shape.len_q, random)),
        lengths_kv(shape.is_thd && shape.causal ? lengths_q : draw_lengths(shape, shape.len_kv, random)),
        q(shape, lengths_q, random, tile_rows_q),
        kv(shape, lengths_kv, random, tile_rows_kv) {}

  // Keys that query i of a sequence sees.
  int32_t keys(int32_t seq, int32_t i) const {
    return shape.causal ? std::min(i + 1, lengths_kv[seq]) : lengths_kv[seq];
  }

  AttnParams params(int32_t dim_qk, int32_t dim_v) const {
    AttnParams p;
    p.batch = shape.batch;
    p.q_side = q.side, p.kv_side = kv.side;
    p.num_heads_q = shape.heads_q, p.num_heads_kv = shape.heads_kv;
    p.head_dim_qk = dim_qk, p.head_dim_v = dim_v;
    p.window_right = shape.causal ? 0 : -1;
    p.attn_scale = 1.f / std::sqrt(static_cast<float>(dim_qk));
    return p;
  }
};

// How many shapes, each on one multiprocessor and on three, have an error(shape) at or above the tolerance.
template <class F>
int count_wrong(uint32_t seed, double tolerance, F error_of) {
  int wrong = 0;
  for (int multiprocessors : {1, 3}) {
    for (const Shape& shape : kShapes) {
      device().multiprocessors = multiprocessors;
      device().random.seed(seed);
      const double error = error_of(shape);
      if (error < tolerance) continue;
      std::printf("seed %u, %d multiprocessors, thd %d, causal %d: error %.3g\n", seed, multiprocessors, shape.is_thd,
                  shape.causal, error);
      ++wrong;
    }
  }
  return wrong;
}

// Of a program that is called with a kernel's name and a seed: its exit code.
inline int check_named(int argc, char** argv, const std::map<std::string, int (*)(uint32_t)>& kernels) {
  if (argc != 3 || kernels.count(argv[1]) == 0) broken("call it with the name of a kernel and a seed");
  return kernels.at(argv[1])(static_cast<uint32_t>(std::atoi(argv[2])));
}

}  // namespace portattn::model
