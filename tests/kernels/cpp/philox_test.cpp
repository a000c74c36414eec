// Known answers of Philox4x32-10 (from its authors' Random123 distribution) on the header that every kernel uses.
#include <cstdint>
#include <cstdio>

#include "device/philox.cuh"

namespace portattn {
namespace {

struct KnownAnswer {
  Philox4 counter;
  uint32_t key0, key1;
  Philox4 expected;
};

constexpr KnownAnswer kKnownAnswers[] = {
    {{{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
    {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
     0xffffffff,
     0xffffffff,
     {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
    {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
     0xa4093822,
     0x299f31d0,
     {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
};

int check_known_answers() {
  int failures = 0;
  for (const KnownAnswer& known : kKnownAnswers) {
    const Philox4 got = philox(known.counter, known.key0, known.key1);
    for (int i = 0; i < 4; ++i) {
      if (got.word[i] != known.expected.word[i]) {
        std::printf("word %d: got %08x, expected %08x\n", i, got.word[i], known.expected.word[i]);
        ++failures;
      }
    }
  }
  return failures;
}

// Prints which elements are kept, for the Python replica to compare with.
void print_keep(int32_t rows, int32_t cols) {
  AttnParams params;
  const uint64_t rng_state[2] = {0x0123456789abcdefull, 0x100000005ull};
  params.dropout = 0.3f;
  params.rng_state = rng_state;
  params.num_heads_q = 3;
  const Dropout dropout = make_dropout(params, 2, 1);
  for (int32_t i = 0; i < rows; ++i) {
    for (int32_t j = 0; j < cols; ++j) std::putchar(dropout.keep(dropout.draw(i, j), j / 8 % 4, j % 2) ? '1' : '0');
    std::putchar('\n');
  }
}

}  // namespace
}  // namespace portattn

int main() {
  const int failures = portattn::check_known_answers();
  if (failures == 0) portattn::print_keep(40, 70);
  return failures != 0;
}
