// Runs the blocks of a launch, several at a time; within a block, waves take turns.
#pragma once

#include <cstdint>
#include <string>

#include "gfx942_sim.h"
#include "memory_map.h"
#include "object.h"

namespace gfxsim {

struct Launch {
  const Kernel* kernel;
  const Program* program;
  uint32_t grid[3];
  uint32_t block[3];
  uint32_t lds_bytes;
  std::vector<uint8_t> kernarg;  // all of it, hidden arguments included
  gfxsim_options options;
  MemorySnapshot memory;

  uint32_t threads() const { return block[0] * block[1] * block[2]; }
  uint32_t waves() const { return (threads() + kLanes - 1) / kLanes; }
};

// Throws what the first failing block threw, with kernel, block, wave, pc and instruction in front.
gfxsim_report run_launch(const Launch& launch);

}  // namespace gfxsim
