// The model's counterpart.
#pragma once

#include "arch/sm90/ring.cuh"
#include "device/launch.cuh"

namespace portattn::sm90 {

constexpr bool kIsSm90a = true;

inline int uniform(int x) { return model::exchange(x, 0); }

inline uint32_t smem_address(const void* p) {
  return static_cast<uint32_t>(static_cast<const char*>(p) - model::block().smem);
}

struct alignas(8) Barrier {
  uint16_t arrivals, pending;
  int32_t bytes_and_phase;  // bytes on their way, times 2, and the parity of the phase that has not completed

  void init(int count) {
    arrivals = pending = static_cast<uint16_t>(count);
    bytes_and_phase = 0;
  }
  void arrive() {
    if (pending == 0) model::broken("an arrival too many");
    --pending;
    step();
  }
  void arrive_expect(int bytes) {
    bytes_and_phase += bytes * 2;
    arrive();
  }
  void bring(int bytes) {
    bytes_and_phase -= bytes * 2;
    step();
  }
  void wait(int parity) {
    model::wait_until([&] { return (bytes_and_phase & 1) != parity; });
  }

 private:
  void step() {
    model::happened();
    if (pending > 0 || bytes_and_phase >> 1 != 0) return;
    bytes_and_phase ^= 1;
    pending = arrivals;
  }
};

inline void fence_barrier_init() {}
inline void fence_async_proxy() {}
inline void named_sync(int id, int threads) { model::meet(model::block().named[id], threads); }
inline void named_arrive(int id, int threads) { model::arrive(model::block().named[id], threads); }
template <int Registers>
void give_registers() {}
template <int Registers>
void take_registers() {}

}  // namespace portattn::sm90
