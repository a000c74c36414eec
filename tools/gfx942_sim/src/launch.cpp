#include "launch.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <random>
#include <thread>

#include "error.h"
#include "wave.h"

namespace gfxsim {
namespace {

// Instructions of one turn: a wave that waits for another one in a loop must not keep it from running.
constexpr uint64_t kTurn = 100000;
// At most, in a random order; short, so that many interleavings are tried.
constexpr uint32_t kRandomTurn = 200;
// With preloaded arguments, the program begins behind code that loads them on older firmware.
constexpr uint64_t kPreloadEntry = 256;

// User SGPRs, in the order of the descriptor's property bits.
enum UserRegisters { kPrivateBuffer, kDispatchPacket, kQueue, kKernarg, kDispatchId, kFlatScratch, kPrivateSize, kAll };
constexpr int kUserRegisterCount[kAll] = {4, 2, 2, 2, 2, 2, 1};

// What the hardware's dispatcher reads, for kernels that ask for it.
struct DispatchPacket {
  uint16_t header, setup;
  uint16_t block[3], reserved0;
  uint32_t threads[3];
  uint32_t private_bytes, group_bytes;
  uint64_t kernel_object, kernarg, reserved1, completion;
};

DispatchPacket make_packet(const Launch& launch) {
  DispatchPacket packet = {};
  packet.setup = 3;
  for (int i = 0; i < 3; ++i) {
    packet.block[i] = static_cast<uint16_t>(launch.block[i]);
    packet.threads[i] = launch.grid[i] * launch.block[i];
  }
  packet.private_bytes = launch.kernel->metadata.scratch_bytes;
  packet.group_bytes = launch.lds_bytes;
  packet.kernarg = reinterpret_cast<uint64_t>(launch.kernarg.data());
  return packet;
}

// One host thread's block: its waves are used again for the next one.
class BlockRunner {
 public:
  BlockRunner(const Launch& launch, const MemorySnapshot& memory, const DispatchPacket& packet,
              const std::atomic<bool>& stop)
      : launch_(launch), memory_(memory), packet_(packet), stop_(stop), waves_(launch.waves()), done_(launch.waves()) {
    block_.scratch_bytes = launch.kernel->metadata.scratch_bytes;
  }

  void run(uint64_t number);
  const gfxsim_report& report() const { return report_; }

 private:
  void start_block(uint64_t number);
  void start_wave(uint32_t number);
  void start_scalars(Wave* wave) const;
  void start_lanes(Wave* wave) const;
  void run_turn(Wave* wave, uint64_t instructions);
  void step(Wave* wave);
  void trace(const Wave& wave, const Instruction& instruction) const;
  bool pass_barrier();
  [[noreturn]] void fail(const Wave* wave, gfxsim_status status, const std::string& what) const;

  const Launch& launch_;
  const MemorySnapshot& memory_;
  const DispatchPacket& packet_;
  const std::atomic<bool>& stop_;
  Block block_;
  std::vector<Wave> waves_;
  std::vector<uint64_t> done_;  // vector memory operations that each wave waited for
  std::mt19937_64 random_;
  gfxsim_report report_ = {};
};

void BlockRunner::start_block(uint64_t number) {
  block_.id[0] = static_cast<uint32_t>(number % launch_.grid[0]);
  block_.id[1] = static_cast<uint32_t>(number / launch_.grid[0] % launch_.grid[1]);
  block_.id[2] = static_cast<uint32_t>(number / launch_.grid[0] / launch_.grid[1]);
  const auto poison = [](std::vector<uint8_t>* memory, uint64_t bytes) {
    memory->resize(bytes);
    for (uint64_t i = 0; i < bytes; ++i) (*memory)[i] = static_cast<uint8_t>(kPoison >> (8 * (i % 4)));
  };
  poison(&block_.lds, launch_.lds_bytes);
  poison(&block_.scratch, uint64_t{launch_.waves()} * kLanes * block_.scratch_bytes);
  block_.lds_checker.reset(launch_.lds_bytes, static_cast<int>(launch_.waves()), launch_.options.check_races != 0);
  random_.seed(launch_.options.seed * 1000003 + number);
  for (uint32_t i = 0; i < launch_.waves(); ++i) start_wave(i);
}

void BlockRunner::start_wave(uint32_t number) {
  Wave& wave = waves_[number];
  std::fill(&wave.v[0][0], &wave.v[0][0] + kVectorRegisters * kLanes, kPoison);
  std::fill(std::begin(wave.s), std::end(wave.s), kPoison);
  wave.scc = false;
  wave.state = WaveState::kRunning;
  wave.index_mode = 0;
  wave.number = number;
  wave.executed = 0;
  wave.block = &block_;
  wave.program = launch_.program;
  wave.memory = &memory_;
  wave.memory_cache = MemoryCache();
  wave.waits.reset(launch_.options.check_waits != 0);
  const bool preloads = (launch_.kernel->descriptor.preload & 0x7f) != 0;
  wave.next = launch_.program->slot(launch_.kernel->entry + (preloads ? kPreloadEntry : 0));
  start_scalars(&wave);
  start_lanes(&wave);
}

void BlockRunner::start_scalars(Wave* wave) const {
  const KernelDescriptor& descriptor = launch_.kernel->descriptor;
  int next = 0;
  for (int i = 0; i < kAll; ++i) {
    if ((descriptor.properties >> i & 1) == 0) continue;
    uint64_t value = 0;
    if (i == kDispatchPacket) value = reinterpret_cast<uint64_t>(&packet_);
    if (i == kKernarg) value = packet_.kernarg;
    if (i == kPrivateSize) value = block_.scratch_bytes;
    for (int j = 0; j < kUserRegisterCount[i]; ++j)
      wave->s[next++] = j < 2 ? static_cast<uint32_t>(value >> (32 * j)) : 0;
  }
  const uint32_t preload_count = descriptor.preload & 0x7f;
  const uint32_t preload_offset = descriptor.preload >> 7;
  for (uint32_t i = 0; i < preload_count; ++i) {
    const uint64_t at = (uint64_t{preload_offset} + i) * sizeof(uint32_t);
    if (at + sizeof(uint32_t) > launch_.kernarg.size() || next >= kVcc) break;
    memcpy(&wave->s[next++], &launch_.kernarg[at], sizeof(uint32_t));
  }
  constexpr int kBlockIdX = 7;  // bit of the descriptor, y and z follow
  for (int i = 0; i < 3; ++i) {
    if (descriptor.resources2 >> (kBlockIdX + i) & 1) wave->s[next++] = block_.id[i];
  }
}

// EXEC has the lanes that exist; v0 holds the thread's x, y and z, ten bits each.
void BlockRunner::start_lanes(Wave* wave) const {
  uint64_t exec = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const uint32_t thread = wave->number * kLanes + lane;
    if (thread < launch_.threads()) exec |= uint64_t{1} << lane;
    const uint32_t x = thread % launch_.block[0];
    const uint32_t y = thread / launch_.block[0] % launch_.block[1];
    const uint32_t z = thread / (launch_.block[0] * launch_.block[1]);
    wave->v[0][lane] = (x & 0x3ff) | (y & 0x3ff) << 10 | (z & 0x3ff) << 20;
  }
  wave->set_pair(kExec, exec);
}

void BlockRunner::trace(const Wave& wave, const Instruction& instruction) const {
  gfxsim_event event;
  std::copy(std::begin(block_.id), std::end(block_.id), event.block);
  event.wave = wave.number;
  event.cls = instruction.cls;
  event.pc = instruction.address;
  event.exec = wave.exec();
  event.text = launch_.program->texts[&instruction - launch_.program->instructions.data()].c_str();
  launch_.options.trace(launch_.options.trace_context, &event);
}

void BlockRunner::step(Wave* wave) {
  const Instruction& instruction = launch_.program->instructions[wave->next];
  wave->waits.check(instruction);
  if (launch_.options.trace != nullptr) trace(*wave, instruction);
  ++report_.instructions_of_class[instruction.cls];
  if (instruction.cls == GFXSIM_CLASS_MFMA) report_.mfma_flops += instruction.matrix_op.flops();
  ++wave->next;
  ++wave->executed;
  instruction.run(*wave, instruction);
  if (instruction.counter != Counter::kNone) {
    const Operand nothing;
    wave->waits.issue(instruction.counter, instruction.scalar_memory,
                      instruction.brings_data ? instruction.destination : nothing);
  }
}

void BlockRunner::run_turn(Wave* wave, uint64_t instructions) {
  uint32_t at = wave->next;
  try {
    for (uint64_t i = 0; i < instructions && wave->state == WaveState::kRunning; ++i) {
      at = wave->next;
      step(wave);
    }
  } catch (const Error& error) {
    wave->next = at;
    fail(wave, error.status(), error.what());
  }
  if (wave->executed > launch_.options.max_instructions) {
    fail(wave, GFXSIM_HANG,
         format("the wave executed %llu instructions, more than the limit of %llu",
                static_cast<unsigned long long>(wave->executed),
                static_cast<unsigned long long>(launch_.options.max_instructions)));
  }
}

// Where all waves that still run are at the barrier, lets them pass.
bool BlockRunner::pass_barrier() {
  for (const Wave& wave : waves_) {
    if (wave.state != WaveState::kAtBarrier && wave.state != WaveState::kEnded) return false;
  }
  for (size_t i = 0; i < waves_.size(); ++i) done_[i] = waves_[i].waits.vector_done();
  try {
    block_.lds_checker.close_interval();
  } catch (const Error& error) {
    fail(nullptr, error.status(), error.what());
  }
  block_.lds_checker.settle_arrivals(done_);
  bool any = false;
  for (Wave& wave : waves_) {
    if (wave.state != WaveState::kAtBarrier) continue;
    wave.state = WaveState::kRunning;
    any = true;
  }
  return any;
}

void BlockRunner::run(uint64_t number) {
  start_block(number);
  const bool random = launch_.options.seed != 0;
  std::vector<Wave*> ready;
  do {
    for (;;) {
      ready.clear();
      for (Wave& wave : waves_) {
        if (wave.state == WaveState::kYielded) wave.state = WaveState::kRunning;
        if (wave.state == WaveState::kRunning) ready.push_back(&wave);
      }
      if (ready.empty()) break;
      if (stop_) return;
      if (random) {
        run_turn(ready[random_() % ready.size()], 1 + random_() % kRandomTurn);
      } else {
        for (Wave* wave : ready) run_turn(wave, kTurn);
      }
    }
  } while (pass_barrier());
  ++report_.blocks;
  report_.waves += waves_.size();
  for (const Wave& wave : waves_) report_.instructions += wave.executed;
}

void BlockRunner::fail(const Wave* wave, gfxsim_status status, const std::string& what) const {
  std::string place = format("kernel %s, block (%u, %u, %u)", launch_.kernel->metadata.name.c_str(), block_.id[0],
                             block_.id[1], block_.id[2]);
  if (wave != nullptr) {
    const Instruction& instruction = launch_.program->instructions[wave->next];
    place += format(", wave %u, pc 0x%llx (%s)", wave->number, static_cast<unsigned long long>(instruction.address),
                    launch_.program->texts[wave->next].c_str());
  }
  throw Error(status, place + ": " + what);
}

void add_report(const gfxsim_report& part, gfxsim_report* sum) {
  sum->blocks += part.blocks;
  sum->waves += part.waves;
  sum->instructions += part.instructions;
  sum->mfma_flops += part.mfma_flops;
  for (int i = 0; i < GFXSIM_CLASS_COUNT; ++i) sum->instructions_of_class[i] += part.instructions_of_class[i];
}

uint32_t available_cpus() {
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0) return 1;
  return static_cast<uint32_t>(std::max(1, CPU_COUNT(&cpus)));
}

MemoryRange internal_range(const void* address, uint64_t bytes, bool writable, const std::string& name) {
  const auto begin = reinterpret_cast<uint64_t>(address);
  return {begin, begin + bytes, writable, name};
}

}  // namespace

gfxsim_report run_launch(const Launch& launch) {
  const auto start = std::chrono::steady_clock::now();
  const DispatchPacket packet = make_packet(launch);
  const Elf& elf = launch.kernel->object->elf;
  MemorySnapshot memory = launch.memory;
  memory.add(internal_range(launch.kernarg.data(), launch.kernarg.size(), false, "the kernel's arguments"));
  memory.add(internal_range(elf.image.get(), elf.image_size, true, "the code object's variables"));
  memory.add(internal_range(&packet, sizeof(packet), false, "the dispatch packet"));

  const uint64_t blocks = uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2];
  const uint64_t wanted = launch.options.threads == 0 ? available_cpus() : launch.options.threads;
  const auto thread_count = static_cast<size_t>(std::min<uint64_t>(wanted, blocks));
  std::atomic<uint64_t> next_block{0};
  std::atomic<bool> stop{false};
  std::vector<std::exception_ptr> failures(thread_count);
  std::vector<gfxsim_report> reports(thread_count);
  const auto work = [&](size_t thread) {
    try {
      auto runner = std::make_unique<BlockRunner>(launch, memory, packet, stop);
      // In order: a block may wait for one with a lower number, as on hardware.
      for (uint64_t block; !stop && (block = next_block++) < blocks;) runner->run(block);
      reports[thread] = runner->report();
    } catch (...) {
      failures[thread] = std::current_exception();
      stop = true;
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < thread_count; ++i) threads.emplace_back(work, i);
  if (thread_count != 0) work(0);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure != nullptr) std::rethrow_exception(failure);
  }
  gfxsim_report report = {};
  for (const gfxsim_report& part : reports) add_report(part, &report);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace gfxsim
