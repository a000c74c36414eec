// LDS bounds and LDS races. Each wave notes the bytes it reads, writes and updates atomically since the last barrier, a
// bit a byte; when a barrier opens, the notes of the waves must not contradict each other. Loads straight into LDS are
// noted as pending until a s_waitcnt of their wave covers them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gfxsim {

class LdsChecker {
 public:
  enum Kind { kRead, kWrite, kAtomic, kKinds };

  void reset(uint32_t lds_bytes, int waves, bool enabled);
  bool enabled() const { return enabled_; }

  // An access inside bounds, by the instruction at `pc`.
  void note(Kind kind, int wave, uint32_t address, uint32_t bytes, uint64_t pc) {
    if (!enabled_) return;
    set_bits(maps_[wave * kKinds + kind].data(), address, bytes);
    touched_ = true;
    last_pc_[kind == kRead ? 0 : 1][address / kGranule] = pc;
  }

  // A load straight into LDS began; it is operation `number` of the wave's vmcnt.
  void note_arrival(int wave, uint32_t address, uint32_t bytes, uint64_t number);

  // Before a read: throws a GFXSIM_HAZARD where it meets bytes that are still on their way. `done` is the latest
  // operation that the reading wave waited for.
  void check_arrived(int wave, uint32_t address, uint32_t bytes, uint64_t done) {
    if (!arrivals_.empty()) search_arrivals(wave, address, bytes, done);
  }

  // At a barrier: what each wave waited for by now is there for all.
  void settle_arrivals(const std::vector<uint64_t>& done_of_wave);

  // At a barrier or the end of a block: throws a GFXSIM_RACE where waves contradict each other, then starts anew.
  void close_interval();

 private:
  static constexpr uint32_t kGranule = 16;  // bytes that share the memory of who accessed them last

  static void set_bits(uint64_t* map, uint32_t address, uint32_t bytes) {
    const uint32_t bit = address % 64;
    const uint64_t mask = bytes == 64 ? ~uint64_t{0} : (uint64_t{1} << bytes) - 1;
    map[address / 64] |= mask << bit;
    if (bit + bytes > 64) map[address / 64 + 1] |= mask >> (64 - bit);
  }
  // Bytes of a word of the maps that `first` writes or updates and `second` touches.
  uint64_t conflicts(int first, int second, size_t word) const;
  [[noreturn]] void report(int first, int second, size_t word, uint64_t bits) const;

  struct Arrival {
    int wave;
    uint32_t begin, end;
    uint64_t number;
  };
  void search_arrivals(int wave, uint32_t address, uint32_t bytes, uint64_t done) const;

  std::vector<Arrival> arrivals_;
  bool enabled_ = false;
  bool touched_ = false;
  int waves_ = 0;
  std::vector<std::vector<uint64_t>> maps_;  // [wave * kKinds + kind]
  std::vector<uint64_t> last_pc_[2];         // of a read, of a write
};

}  // namespace gfxsim
