#include "lds_checker.h"

#include <algorithm>

#include "error.h"

namespace gfxsim {

void LdsChecker::reset(uint32_t lds_bytes, int waves, bool enabled) {
  arrivals_.clear();
  enabled_ = enabled && waves > 1 && lds_bytes != 0;
  touched_ = false;
  waves_ = waves;
  if (!enabled_) return;
  maps_.resize(waves * kKinds);
  for (std::vector<uint64_t>& map : maps_) map.assign(lds_bytes / 64 + 2, 0);
  for (std::vector<uint64_t>& pcs : last_pc_) pcs.assign(lds_bytes / kGranule + 1, 0);
}

uint64_t LdsChecker::conflicts(int first, int second, size_t word) const {
  const auto map = [this, word](int wave, Kind kind) { return maps_[wave * kKinds + kind][word]; };
  return (map(first, kWrite) & (map(second, kRead) | map(second, kWrite) | map(second, kAtomic))) |
         (map(first, kAtomic) & map(second, kRead));
}

void LdsChecker::note_arrival(int wave, uint32_t address, uint32_t bytes, uint64_t number) {
  if (!arrivals_.empty()) {
    Arrival& last = arrivals_.back();
    if (last.wave == wave && last.number == number && last.end == address) {
      last.end += bytes;
      return;
    }
  }
  arrivals_.push_back({wave, address, address + bytes, number});
}

void LdsChecker::settle_arrivals(const std::vector<uint64_t>& done_of_wave) {
  const auto arrived = [&done_of_wave](const Arrival& arrival) { return arrival.number <= done_of_wave[arrival.wave]; };
  arrivals_.erase(std::remove_if(arrivals_.begin(), arrivals_.end(), arrived), arrivals_.end());
}

void LdsChecker::search_arrivals(int wave, uint32_t address, uint32_t bytes, uint64_t done) const {
  for (const Arrival& arrival : arrivals_) {
    if (address >= arrival.end || address + bytes <= arrival.begin) continue;
    if (arrival.wave == wave && arrival.number <= done) continue;
    throw Error(
        GFXSIM_HAZARD,
        arrival.wave == wave
            ? format("LDS byte %u is read before s_waitcnt vmcnt covers the load that brings it", address)
            : format("LDS byte %u is read, but wave %d, whose load brings it, did not wait for that load before "
                     "the last barrier",
                     address, arrival.wave));
  }
}

void LdsChecker::close_interval() {
  if (!enabled_ || !touched_) return;
  const size_t words = maps_[0].size();
  for (int first = 0; first < waves_; ++first) {
    for (int second = 0; second < waves_; ++second) {
      if (first == second) continue;
      for (size_t word = 0; word < words; ++word) {
        if (const uint64_t bits = conflicts(first, second, word)) report(first, second, word, bits);
      }
    }
  }
  for (std::vector<uint64_t>& map : maps_) std::fill(map.begin(), map.end(), 0);
  touched_ = false;
}

void LdsChecker::report(int first, int second, size_t word, uint64_t bits) const {
  const uint32_t address = static_cast<uint32_t>(word * 64 + __builtin_ctzll(bits));
  const bool reads = (maps_[second * kKinds + kRead][word] & bits) != 0;
  throw Error(
      GFXSIM_RACE,
      format("wave %d writes LDS byte %u, wave %d %s it, and no barrier is between them; last access around that "
             "byte: write at pc 0x%llx, read at pc 0x%llx",
             first, address, second, reads ? "reads" : "writes",
             static_cast<unsigned long long>(last_pc_[1][address / kGranule]),
             static_cast<unsigned long long>(last_pc_[0][address / kGranule])));
}

}  // namespace gfxsim
