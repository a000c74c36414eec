// The memory kernels may touch: ranges of this process, registered by the caller.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "gfx942_sim.h"

namespace gfxsim {

struct MemoryRange {
  uint64_t begin;
  uint64_t end;
  bool writable;
  std::string name;
};

// Ranges sorted by address; does not change during a launch.
class MemorySnapshot {
 public:
  void add(MemoryRange range);  // throws where it overlaps another
  bool remove(uint64_t begin);
  const MemoryRange* find(uint64_t address) const;
  // For messages: "128 bytes past the end of q (4096 bytes at 0x...)".
  std::string describe(uint64_t address) const;

 private:
  std::vector<MemoryRange> ranges_;
};

// The ranges a wave used last: a kernel walks a handful of tensors.
struct MemoryCache {
  static constexpr int kWays = 4;
  const MemoryRange* ranges[kWays] = {};
  int next = 0;
  std::deque<MemoryRange> looked_up;  // nobody registered these: a gfxsim_memory_lookup told of them
};

enum class Access { kRead, kWrite };

// The range with [address, address + bytes), allowed for `access`; throws a GFXSIM_MEMORY_FAULT.
const MemoryRange& check_access(const MemorySnapshot& memory, MemoryCache* cache, uint64_t address, uint32_t bytes,
                                Access access, int lane);

// The process-wide map behind gfxsim_memory_register.
void register_memory(MemoryRange range);
void unregister_memory(uint64_t begin);
void set_memory_lookup(gfxsim_memory_lookup lookup);
MemorySnapshot snapshot_memory();

}  // namespace gfxsim
