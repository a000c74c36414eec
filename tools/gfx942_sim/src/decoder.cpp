#include "decoder.h"

#include <stdexcept>

namespace gfxsim {

std::string decode(const std::string& text, Instruction* instruction) {
  const Syntax syntax(text);
  try {
    for (const auto decoder : {decode_control, decode_scalar, decode_scalar_memory, decode_lane_op, decode_packed,
                               decode_cross_lane, decode_matrix, decode_lds, decode_flat, decode_buffer}) {
      if (decoder(syntax, instruction)) return "";
    }
  } catch (const NotModelled& problem) {
    return problem.what + " of this instruction is not modelled";
  } catch (const std::out_of_range&) {
    return "an operand is missing";
  }
  return "this instruction is not modelled";
}

}  // namespace gfxsim
