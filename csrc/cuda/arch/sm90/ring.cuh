// Rings of buffers in shared memory, each with barriers whose phases alternate.
#pragma once

#include "device/types.cuh"

namespace portattn::sm90 {

// A position in a ring of Stages buffers, and the parity of its barriers: one count, to spare registers.
template <int Stages>
struct RingSlot {
  uint32_t count = 0;
  PA_DEVICE int index() const { return static_cast<int>(count % Stages); }
  PA_DEVICE int parity() const { return static_cast<int>(count / Stages % 2); }
  PA_DEVICE void advance() { ++count; }
  PA_DEVICE RingSlot previous() const { return RingSlot{count - 1}; }
  PA_DEVICE RingSlot next() const { return RingSlot{count + 1}; }
};

}  // namespace portattn::sm90
