// Ordered additions of dq (fmha/pipeline/sm90_bwd_turns.cuh) for masks and lengths drawn at random: which query tiles
// see a tile of keys, against a look at every score; and that the tile of keys which adds before another, at any query
// tile, is the one just before it in the sequence and an earlier item of the work order.
#include <cstdint>
#include <cstdio>
#include <map>
#include <random>
#include <tuple>
#include <vector>

#include "attn/visibility.cuh"
#include "attn/work_order.cuh"

namespace portattn {
namespace {

constexpr int32_t kBlockKv = 16;
int failures = 0;

struct Lengths {
  int32_t q, kv;
};

void expect(bool condition, const char* what, int seed) {
  if (condition) return;
  if (++failures <= 10) std::printf("%s, seed %d\n", what, seed);
}

class Draw {
 public:
  explicit Draw(int seed) : random_(seed) {}
  int32_t upto(int32_t last) { return std::uniform_int_distribution<int32_t>(0, last)(random_); }

 private:
  std::mt19937 random_;
};

AttnParams draw_mask(Draw& draw) {
  AttnParams p;
  p.bottom_right = draw.upto(1) == 1;
  p.window_left = draw.upto(2) == 0 ? draw.upto(70) : -1;
  p.window_right = draw.upto(1) == 0 ? draw.upto(2) * 20 : -1;
  p.chunk = make_fast_divisor(draw.upto(3) == 0 ? 1 + draw.upto(60) : 0);
  return p;
}

bool sees(const Visibility& v, int32_t first_row, int32_t rows, int32_t first_key, int32_t end_key) {
  for (int32_t row = first_row; row < first_row + rows; ++row) {
    const KeyRange keys = v.keys(row);
    if (keys.lo < end_key && keys.hi > first_key) return true;
  }
  return false;
}

// The sequences of a buffer as the planner lays them out: tiles of a sequence from last to first, some of them padding.
struct Packed {
  std::vector<SeqSpan> spans;
  std::vector<TileRef> tiles;
  int32_t num_tiles = 0;

  Packed(Draw& draw, const std::vector<Lengths>& lengths) {
    for (int32_t seq = 0; seq < static_cast<int32_t>(lengths.size()); ++seq) {
      const int32_t slot = lengths[seq].kv + draw.upto(1) * draw.upto(40);
      spans.push_back(SeqSpan{0, lengths[seq].kv, slot});
      for (int32_t block = ceil_div(slot, kBlockKv); block > 0; --block) tiles.push_back(TileRef{seq, block - 1});
    }
    num_tiles = static_cast<int32_t>(tiles.size());
  }
};

// Every item in its turn, as blocks draw them.
void check_turns(const AttnParams& p, const std::vector<Lengths>& lengths, int32_t block_q, int seed) {
  const WorkOrder order = make_ordered_key_order(p, kBlockKv, 2);
  const int32_t steps = order.steps(p.kv_side);
  std::map<std::tuple<int32_t, int32_t, int32_t>, int32_t> words;  // (sequence, head, query tile)
  for (int32_t index = 0; index < order.lanes * steps; ++index) {
    const WorkItem item = order.item(p.kv_side, index, steps);
    const int32_t seq = item.tile.seq;
    const SeqRows rows = seq_rows(p.kv_side, p.batch, seq);
    const bool upward = last_keys_first(p.window_left, p.window_right);
    const int32_t block =
        upward ? item.tile.block : first_keys_first(p.kv_side, rows.slot_len, item.tile.block, kBlockKv);
    const TileRows keys(rows, block, kBlockKv);
    if (keys.valid == 0) continue;
    const Visibility v(p, lengths[seq].q, lengths[seq].kv);
    const int32_t first = keys.first, end = first + keys.valid;
    const QueryTiles queries = query_tiles(v, first, end, block_q);
    const int32_t before = block + (upward ? 1 : -1), first_before = before * kBlockKv;
    QueryTiles shared{0, 0};
    if (before >= 0 && first_before < lengths[seq].kv) {
      shared = query_tiles(v, first_before, min_of(first_before + kBlockKv, lengths[seq].kv), block_q);
    }
    for (int32_t m = 0; m < ceil_div(lengths[seq].q, block_q); ++m) {
      const bool visited = m >= queries.begin && m < queries.end;
      expect(visited || !sees(v, m * block_q, block_q, first, end), "a query tile is left out", seed);
      if (!visited) continue;
      int32_t& word = words[{seq, item.head, m}];
      const bool is_shared = m >= shared.begin && m < shared.end;
      expect(word == (is_shared ? before + 1 : 0), "waits for a tile that comes later, or for none", seed);
      word = block + 1;
    }
  }
}

void check(int seed) {
  Draw draw(seed);
  AttnParams p = draw_mask(draw);
  const bool is_thd = draw.upto(1) == 1;
  p.batch = 1 + draw.upto(3);
  p.num_heads_q = p.num_heads_kv = 1 + draw.upto(40);
  p.head_dim_qk = p.head_dim_v = 64;
  std::vector<Lengths> lengths;
  for (int32_t i = 0; i < p.batch; ++i) lengths.push_back(Lengths{draw.upto(200), draw.upto(200)});
  if (!is_thd) lengths.assign(p.batch, lengths[0]);
  const Packed packed(draw, lengths);
  p.q_side.seqlen = is_thd ? 1000 : lengths[0].q;
  p.kv_side.seqlen = is_thd ? 1000 : lengths[0].kv;
  p.q_side.is_thd = p.kv_side.is_thd = is_thd;
  p.kv_side.plan = SidePlan{packed.spans.data(), packed.tiles.data(), &packed.num_tiles};
  for (int32_t block_q : {8, 16}) check_turns(p, lengths, block_q, seed);
}

}  // namespace
}  // namespace portattn

int main() {
  for (int seed = 0; seed < 3000; ++seed) portattn::check(seed);
  return portattn::failures < 100 ? portattn::failures : 100;
}
