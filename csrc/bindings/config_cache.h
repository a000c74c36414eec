// A small cache of NVTEFusedAttnConfig handles, keyed by the whole list of attributes, so that a repeated call finds
// its checked config and workspace sizes in about a microsecond. One cache a thread: a config belongs to one thread at
// a time. Knows the C API only; the bindings of every framework share it.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "portattn/portattn.h"

namespace portattn_bindings {

// What the caller got wrong, or what no backend can do, becomes std::invalid_argument, Python's ValueError; the rest
// std::runtime_error.
inline void check(NVTEStatus status) {
  if (status == NVTE_SUCCESS) return;
  const std::string text = nvte_get_last_error();
  if (status == NVTE_INVALID_ARGUMENT || status == NVTE_NOT_SUPPORTED) throw std::invalid_argument(text);
  throw std::runtime_error(text);
}

// Everything a config is made of: (attribute, value) pairs, integers and floats.
struct ConfigKey {
  std::vector<int64_t> ints;  // attribute, value, attribute, value, ...
  std::array<std::pair<NVTEFusedAttnAttr, double>, 3> floats;

  void add(NVTEFusedAttnAttr attr, int64_t value) {
    ints.push_back(attr);
    ints.push_back(value);
  }

  int64_t get(NVTEFusedAttnAttr attr, int64_t default_value) const {
    for (size_t i = 0; i + 1 < ints.size(); i += 2) {
      if (ints[i] == attr) return ints[i + 1];
    }
    return default_value;
  }

  bool operator==(const ConfigKey& other) const { return ints == other.ints && floats == other.floats; }
};

struct ConfigKeyHash {
  size_t operator()(const ConfigKey& key) const {
    uint64_t hash = 0x9e3779b97f4a7c15u;
    const auto mix = [&hash](uint64_t value) { hash = (hash ^ value) * 0xff51afd7ed558ccdu, hash ^= hash >> 32; };
    for (int64_t value : key.ints) mix(static_cast<uint64_t>(value));
    for (const auto& [attr, value] : key.floats) {
      uint64_t bits;
      std::memcpy(&bits, &value, sizeof(bits));
      mix(bits);
    }
    return hash;
  }
};

class Config {
 public:
  explicit Config(const ConfigKey& key) {
    check(nvte_fused_attn_config_create(&handle_));
    try {
      for (size_t i = 0; i + 1 < key.ints.size(); i += 2) {
        check(nvte_fused_attn_config_set_int(handle_, static_cast<NVTEFusedAttnAttr>(key.ints[i]), key.ints[i + 1]));
      }
      for (const auto& [attr, value] : key.floats) check(nvte_fused_attn_config_set_float(handle_, attr, value));
    } catch (...) {
      nvte_fused_attn_config_destroy(handle_);
      throw;
    }
  }
  ~Config() { nvte_fused_attn_config_destroy(handle_); }
  Config(const Config&) = delete;
  Config& operator=(const Config&) = delete;

  NVTEFusedAttnConfig handle() const { return handle_; }

  size_t workspace_bytes(NVTEDirection direction) {
    size_t& bytes = workspace_bytes_[direction];
    if (bytes == kUnknown) {
      size_t asked = 0;
      check(nvte_fused_attn_workspace_size(handle_, direction, &asked));
      bytes = asked;
    }
    return bytes;
  }

 private:
  static constexpr size_t kUnknown = ~size_t{0};
  NVTEFusedAttnConfig handle_ = nullptr;
  size_t workspace_bytes_[2] = {kUnknown, kUnknown};
};

// The calling thread's config for `key`. Valid until the next call on this thread: a full cache is emptied, since
// packed batches bring a new token count, and so a new key, with every step.
inline Config& cached_config(const ConfigKey& key) {
  constexpr size_t kCapacity = 1024;
  thread_local std::unordered_map<ConfigKey, std::unique_ptr<Config>, ConfigKeyHash> cache;
  const auto found = cache.find(key);
  if (found != cache.end()) return *found->second;
  auto config = std::make_unique<Config>(key);
  if (cache.size() >= kCapacity) cache.clear();
  return *cache.emplace(key, std::move(config)).first->second;
}

}  // namespace portattn_bindings
