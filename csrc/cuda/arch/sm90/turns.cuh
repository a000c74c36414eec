// sm_90: blocks that take turns at a piece of global memory. A word tells whose turn it is; whoever is done writes it
// anew.
#pragma once

#include "device/types.cuh"

namespace portattn::sm90 {

// What the word says. Of what happened before it was written, bulk adds that come after fence_turns() see everything.
PA_DEVICE int32_t look_at_turn(const int32_t* word) {
  int32_t turn;
  asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(turn) : "l"(word) : "memory");
  return turn;
}
PA_DEVICE void write_turn(int32_t* word, int32_t turn) {
  asm volatile("st.relaxed.gpu.global.s32 [%0], %1;" ::"l"(word), "r"(turn) : "memory");
}

// Between looking at a word and adding; and between the end of an add (wait_bulk) and writing the word. It cannot be
// left out there: a bulk add that has come to its end for its own thread may still be on its way for other blocks.
PA_DEVICE void fence_turns() {
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
  asm volatile("fence.proxy.async.global;" ::: "memory");
}

}  // namespace portattn::sm90
