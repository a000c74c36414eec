#include "dpp.h"

namespace gfxsim {
namespace {

// dpp_ctrl as encoded.
enum Control : uint16_t {
  kQuadPermEnd = 0x100,  // below: two bits a lane of the quad
  kRowShl = 0x100,
  kRowShr = 0x110,
  kRowRor = 0x120,
  kWaveShl = 0x130,
  kWaveRol = 0x134,
  kWaveShr = 0x138,
  kWaveRor = 0x13c,
  kRowMirror = 0x140,
  kRowHalfMirror = 0x141,
  kRowBcast15 = 0x142,
  kRowBcast31 = 0x143,
  kRowNewBcast = 0x150,
};

// The lane that `lane` reads, or -1.
int source_lane(uint16_t control, int lane) {
  const int in_row = lane & 15;
  const int row = lane & ~15;
  const int count = control & 15;
  if (control < kQuadPermEnd) return (lane & ~3) | (control >> (2 * (lane & 3)) & 3);
  switch (control) {
    case kWaveShl:
      return lane < 63 ? lane + 1 : -1;
    case kWaveRol:
      return (lane + 1) & 63;
    case kWaveShr:
      return lane - 1;
    case kWaveRor:
      return (lane - 1) & 63;
    case kRowMirror:
      return row + 15 - in_row;
    case kRowHalfMirror:
      return (lane & ~7) + 7 - (lane & 7);
    case kRowBcast15:
      return row - 1;  // -1 in the first row
    case kRowBcast31:
      return lane >= 32 ? 31 : -1;
    default:
      break;
  }
  switch (control & ~15) {
    case kRowShl:
      return in_row + count < 16 ? lane + count : -1;
    case kRowShr:
      return in_row >= count ? lane - count : -1;
    case kRowRor:
      return row + ((in_row - count) & 15);
    default:
      return row + count;  // kRowNewBcast
  }
}

struct NamedControl {
  const char* name;
  uint16_t control;
  bool adds_value;
};
constexpr NamedControl kControls[] = {
    {"row_shl", kRowShl, true},           {"row_shr", kRowShr, true},        {"row_ror", kRowRor, true},
    {"wave_shl", kWaveShl, false},        {"wave_rol", kWaveRol, false},     {"wave_shr", kWaveShr, false},
    {"wave_ror", kWaveRor, false},        {"row_mirror", kRowMirror, false}, {"row_half_mirror", kRowHalfMirror, false},
    {"row_newbcast", kRowNewBcast, true},
};

}  // namespace

bool is_dpp_modifier(const std::string& name) {
  for (const NamedControl& control : kControls) {
    if (name == control.name) return true;
  }
  return name == "quad_perm" || name == "row_bcast" || name == "row_mask" || name == "bank_mask" ||
         name == "bound_ctrl";
}

DppControl decode_dpp(const Syntax& syntax) {
  DppControl dpp;
  dpp.row_mask = syntax.integer("row_mask", 0xf);
  dpp.bank_mask = syntax.integer("bank_mask", 0xf);
  dpp.bound_control = syntax.has("bound_ctrl");
  for (const NamedControl& control : kControls) {
    if (!syntax.has(control.name)) continue;
    dpp.used = true;
    dpp.control = control.control + (control.adds_value ? syntax.integer(control.name, 0) : 0);
  }
  if (syntax.has("quad_perm")) {
    dpp.used = true;
    for (int i = 0; i < 4; ++i) dpp.control |= syntax.list_entry("quad_perm", i, 0) << (2 * i);
  }
  if (syntax.has("row_bcast")) {
    dpp.used = true;
    dpp.control = syntax.integer("row_bcast", 15) == 15 ? kRowBcast15 : kRowBcast31;
  }
  return dpp;
}

uint64_t move_lanes(const DppControl& dpp, uint64_t exec, const uint32_t* source, LaneRow* moved, ValueType type) {
  const bool wide = registers_of(type) == 2;
  LaneRow result = {};
  uint64_t writable = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool enabled = (dpp.row_mask >> (lane / 16) & 1) != 0 && (dpp.bank_mask >> (lane / 4 % 4) & 1) != 0;
    if (!enabled) continue;
    const int from = source_lane(dpp.control, lane);
    const bool valid = from >= 0 && (exec >> from & 1) != 0;
    if (!valid && !dpp.bound_control) continue;
    writable |= uint64_t{1} << lane;
    if (!valid) continue;
    result.dwords[lane] = source[from];
    if (wide) result.dwords[kLanes + lane] = source[kLanes + from];
  }
  *moved = result;
  return writable;
}

}  // namespace gfxsim
