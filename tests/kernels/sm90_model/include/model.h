// Blocks of a GPU on a CPU, to run kernels of sm_90 where there is none. Every thread is a fiber that gives way where
// it waits for others; what the copy engine is asked for happens later and in any order. All of it is drawn from a
// seed.
//
// The headers beside this one stand in for those of csrc/cuda with the same names: what they hold in PTX is said here
// in C++. Everything else of a kernel is compiled as it is. What the model does not have: products that are in flight
// (they are done when the warpgroup has asked), registers (nothing spills) and time.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

namespace portattn::model {

[[noreturn]] inline void broken(const char* what) {
  std::printf("%s\n", what);
  std::exit(1);
}

// Where threads meet: the last to come lets all go.
struct Meeting {
  int count = 0;
  uint64_t generation = 0;
};
struct Warp : Meeting {
  uint64_t values[2][32];  // of this exchange and of the one before, which some lanes may still read
};
struct Warpgroup : Meeting {
  float* accumulators[128];
  const uint32_t* operands[128];
};

struct Block {
  std::vector<char> storage;
  char* smem;
  Meeting all, named[16];
  std::vector<Warp> warps;
  std::vector<Warpgroup> groups;
};

// Floats on their way from shared to global memory: read first, written later.
struct BulkWrite {
  float* to;
  const float* from;
  size_t count;
  bool adds;
  size_t number;  // of the thread's
  std::vector<float> data = {};

  void read() {
    if (data.empty()) data.assign(from, from + count);
  }
  void write() {
    read();
    for (size_t i = 0; i < count; ++i) to[i] = adds ? to[i] + data[i] : data[i];
  }
};

struct Fiber {
  static constexpr size_t kStackBytes = 96 * 1024;
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  Block* block;
  int block_index, tid;
  bool done = false;
  std::vector<BulkWrite> writes;  // that this thread has not waited for
  size_t num_writes = 0;          // ever
};

// What the copy engine has been asked for, and how long it will take.
struct Copy {
  std::function<void()> work;
  int rounds;
};

struct Device {
  std::mt19937 random;
  int multiprocessors = 1;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Copy> copies;  // on their way
  std::function<void(const Fiber&)> kernel;
  ucontext_t scheduler;
  Fiber* current = nullptr;
  uint64_t events = 0;  // without any, nobody will ever go on
};
inline Device& device() {
  static Device d;
  return d;
}
inline Fiber& thread() { return *device().current; }
inline Block& block() { return *thread().block; }
inline int lane() { return thread().tid % 32; }

inline void happened() { ++device().events; }
inline void give_way() { swapcontext(&thread().context, &device().scheduler); }
template <class Condition>
void wait_until(Condition condition) {
  while (!condition()) give_way();
}

inline void arrive(Meeting& meeting, int threads) {
  happened();
  if (++meeting.count < threads) return;
  meeting.count = 0;
  ++meeting.generation;
}
inline void meet(Meeting& meeting, int threads) {
  const uint64_t generation = meeting.generation;
  arrive(meeting, threads);
  wait_until([&] { return meeting.generation != generation; });
}

// Some take much longer than others.
inline void copy_later(std::function<void()> work) {
  const int longest = device().random() % 4 == 0 ? 60 : 3;
  device().copies.push_back(Copy{std::move(work), static_cast<int>(device().random() % longest)});
}

// Every lane's v to whoever asks for it.
template <class V>
V exchange(V v, int from) {
  static_assert(sizeof(V) <= sizeof(uint64_t), "a shuffle moves registers");
  Warp& warp = block().warps[thread().tid / 32];
  uint64_t* values = warp.values[warp.generation % 2];
  std::memcpy(&values[lane()], &v, sizeof(v));
  meet(warp, 32);
  V got;
  std::memcpy(&got, &values[from % 32], sizeof(got));
  return got;
}

inline void run_fiber() {
  device().kernel(thread());
  thread().done = true;
  happened();
  give_way();
}

inline void start_block(int index, int threads, size_t smem_bytes) {
  constexpr uintptr_t kAlignment = 1024;
  device().blocks.push_back(std::make_unique<Block>());
  Block& block = *device().blocks.back();
  block.storage.assign(smem_bytes + kAlignment, '\xff');  // NaN in 16 and in 32 bits
  const uintptr_t first = reinterpret_cast<uintptr_t>(block.storage.data());
  block.smem = block.storage.data() + ((first + kAlignment - 1) / kAlignment * kAlignment - first);
  block.warps.resize(threads / 32);
  block.groups.resize(threads / 128);
  for (int tid = 0; tid < threads; ++tid) {
    device().fibers.push_back(std::make_unique<Fiber>());
    Fiber& fiber = *device().fibers.back();
    fiber.stack = std::make_unique<char[]>(Fiber::kStackBytes);
    fiber.block = &block;
    fiber.block_index = index;
    fiber.tid = tid;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = Fiber::kStackBytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_fiber, 0);
  }
}

// Warps that stand still for a while, of whose work others must not count on anything that they have not waited for.
struct Laggards {
  const Block* block = nullptr;
  int first = 0, end = 0, rounds = 0;

  void draw(const std::vector<Fiber*>& alive) {
    if (rounds-- > 0) return;
    const Fiber& one = *alive[device().random() % alive.size()];
    const int width = device().random() % 2 == 0 ? 32 : 128;
    block = one.block;
    first = one.tid / width * width;
    end = first + width;
    rounds = device().random() % 64;
    if (device().random() % 2 == 0) end = first;  // nobody
  }
  bool has(const Fiber& fiber) const { return fiber.block == block && fiber.tid >= first && fiber.tid < end; }
};

// Lets the fibers of some warps go on, warps in any order.
inline void run_some(const std::vector<Fiber*>& alive, const Laggards& laggards) {
  std::vector<size_t> firsts;
  for (size_t first = 0; first < alive.size(); first += 32) firsts.push_back(first);
  std::shuffle(firsts.begin(), firsts.end(), device().random);
  for (size_t first : firsts) {
    if (device().random() % 4 == 0) continue;
    for (size_t i = first; i < std::min(alive.size(), first + 32); ++i) {
      if (laggards.has(*alive[i])) continue;
      device().current = alive[i];
      swapcontext(&device().scheduler, &alive[i]->context);
    }
  }
}
// Copies that are due, in any order.
inline void do_copies() {
  std::vector<Copy> due;
  for (size_t i = device().copies.size(); i-- > 0;) {
    if (device().copies[i].rounds-- > 0) continue;
    due.push_back(std::move(device().copies[i]));
    device().copies.erase(device().copies.begin() + i);
  }
  std::shuffle(due.begin(), due.end(), device().random);
  for (const Copy& copy : due) {
    copy.work();
    happened();
  }
}

// Runs the kernel on every thread of every block, all blocks side by side, to its end.
inline void run(int blocks, int threads, size_t smem_bytes, std::function<void(const Fiber&)> kernel) {
  constexpr int kPatience = 500;  // rounds in which nothing happens; in each, some warps are left out
  device().kernel = std::move(kernel);
  device().blocks.clear();
  device().fibers.clear();
  for (int i = 0; i < blocks; ++i) start_block(i, threads, smem_bytes);
  std::vector<Fiber*> alive;
  for (const auto& fiber : device().fibers) alive.push_back(fiber.get());
  Laggards laggards;
  for (int idle = 0; !alive.empty();) {
    const uint64_t events = device().events;
    laggards.draw(alive);
    run_some(alive, laggards);
    do_copies();
    alive.erase(std::remove_if(alive.begin(), alive.end(), [](const Fiber* fiber) { return fiber->done; }),
                alive.end());
    idle = events == device().events ? idle + 1 : 0;
    if (idle > kPatience) broken("deadlock");
  }
  if (!device().copies.empty()) broken("copies that nobody has waited for");
}

}  // namespace portattn::model
