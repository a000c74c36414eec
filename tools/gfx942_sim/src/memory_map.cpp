#include "memory_map.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "error.h"

namespace gfxsim {
namespace {

std::mutex g_mutex;
MemorySnapshot g_memory;
std::atomic<gfxsim_memory_lookup> g_lookup{nullptr};

unsigned long long hex(uint64_t value) { return value; }

std::string describe_range(const MemoryRange& range) {
  return format("%s (%llu bytes at 0x%llx%s)", range.name.c_str(), hex(range.end - range.begin), hex(range.begin),
                range.writable ? "" : ", read-only");
}

bool begins_after(uint64_t address, const MemoryRange& range) { return address < range.begin; }

const MemoryRange* look_up(MemoryCache* cache, uint64_t address) {
  for (const MemoryRange& range : cache->looked_up) {
    if (address >= range.begin && address < range.end) return &range;
  }
  const gfxsim_memory_lookup lookup = g_lookup;
  uintptr_t begin, end;
  int writable;
  if (lookup == nullptr || lookup(address, &begin, &end, &writable) == 0) return nullptr;
  cache->looked_up.push_back({begin, end, writable != 0, "memory of the process"});
  return &cache->looked_up.back();
}

}  // namespace

void MemorySnapshot::add(MemoryRange range) {
  if (range.begin == range.end) return;
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), range.begin, begins_after);
  if (after != ranges_.end() && after->begin < range.end) {
    throw Error(GFXSIM_INVALID_ARGUMENT, "memory overlaps " + describe_range(*after) + ": unregister that first");
  }
  if (after != ranges_.begin() && std::prev(after)->end > range.begin) {
    throw Error(GFXSIM_INVALID_ARGUMENT,
                "memory overlaps " + describe_range(*std::prev(after)) + ": unregister that first");
  }
  ranges_.insert(after, std::move(range));
}

bool MemorySnapshot::remove(uint64_t begin) {
  const auto same = [begin](const MemoryRange& range) { return range.begin == begin; };
  const auto found = std::find_if(ranges_.begin(), ranges_.end(), same);
  if (found == ranges_.end()) return false;
  ranges_.erase(found);
  return true;
}

const MemoryRange* MemorySnapshot::find(uint64_t address) const {
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), address, begins_after);
  if (after == ranges_.begin() || std::prev(after)->end <= address) return nullptr;
  return &*std::prev(after);
}

std::string MemorySnapshot::describe(uint64_t address) const {
  if (ranges_.empty()) return "no memory is registered";
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), address, begins_after);
  const bool has_before = after != ranges_.begin();
  const bool has_after = after != ranges_.end();
  if (has_before && address < std::prev(after)->end) {
    return format("%llu bytes into %s", hex(address - std::prev(after)->begin),
                  describe_range(*std::prev(after)).c_str());
  }
  const uint64_t past = has_before ? address - std::prev(after)->end : ~uint64_t{0};
  const uint64_t ahead = has_after ? after->begin - address : ~uint64_t{0};
  if (past <= ahead)
    return format("%llu bytes past the end of %s", hex(past), describe_range(*std::prev(after)).c_str());
  return format("%llu bytes before %s", hex(ahead), describe_range(*after).c_str());
}

const MemoryRange& check_access(const MemorySnapshot& memory, MemoryCache* cache, uint64_t address, uint32_t bytes,
                                Access access, int lane) {
  const MemoryRange* range = nullptr;
  for (const MemoryRange* known : cache->ranges) {
    if (known != nullptr && address >= known->begin && address < known->end) range = known;
  }
  if (range == nullptr) {
    range = memory.find(address);
    if (range == nullptr) range = look_up(cache, address);
    cache->ranges[cache->next] = range;
    cache->next = (cache->next + 1) % MemoryCache::kWays;
  }
  const bool inside = range != nullptr && bytes <= range->end - address;
  if (!inside || (access == Access::kWrite && !range->writable)) {
    throw Error(GFXSIM_MEMORY_FAULT,
                format("%s of %u bytes at address 0x%llx by lane %d: %s%s", access == Access::kRead ? "read" : "write",
                       bytes, hex(address), lane, memory.describe(address).c_str(),
                       range != nullptr && !inside ? ", across its end" : ""));
  }
  return *range;
}

void register_memory(MemoryRange range) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  g_memory.add(std::move(range));
}

void unregister_memory(uint64_t begin) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (!g_memory.remove(begin)) {
    throw Error(GFXSIM_NOT_FOUND, format("no registered memory begins at 0x%llx", hex(begin)));
  }
}

void set_memory_lookup(gfxsim_memory_lookup lookup) { g_lookup = lookup; }

MemorySnapshot snapshot_memory() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  return g_memory;
}

}  // namespace gfxsim
