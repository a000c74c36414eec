// v_mfma_*: D = A B + C on registers spread over the wave. For an M x M result of B blocks, lane l holds of A the row
// l % M of block l / M % B, and the `depth` consecutive k that start at depth * (l / (M * B)); of B the column
// likewise. Results go to registers in runs of four rows: register i of lane l is column l % M and row 8 * (i / 4) + 4
// * (l / 32) + i % 4 for M = 32, row 4 * (l / 16) + i % 4 for M = 16, row i for M = 4.
#include <cmath>
#include <cstdio>
#include <cstring>

#include "decoder.h"
#include "values.h"
#include "vector.h"

namespace gfxsim {

namespace {

constexpr int kMostElements = 32 * 32;  // of A or B, all blocks

constexpr int bits_of(Element element) {
  if (element == Element::kF32) return 32;
  return element == Element::kBf16 || element == Element::kF16 ? 16 : 8;
}

template <Element kElement>
auto value_of(uint32_t bits) {
  if constexpr (kElement == Element::kBf16) return bfloat_to_float(bits & 0xffff);
  if constexpr (kElement == Element::kF16) return half_to_float(bits);
  if constexpr (kElement == Element::kF32) return bit_cast<float>(bits);
  if constexpr (kElement == Element::kFp8) return float8_to_float(bits & 0xff, kFp8);
  if constexpr (kElement == Element::kBf8) return float8_to_float(bits & 0xff, kBf8);
  if constexpr (kElement == Element::kI8) return static_cast<int32_t>(static_cast<int8_t>(bits));
}

// A or B as matrix[block][k][row or column], out of the registers.
template <Element kElement, class T>
void gather_elements(const MatrixOp& op, const uint32_t (*registers)[kLanes], T* matrix) {
  constexpr int kWidth = bits_of(kElement);
  constexpr int kPerDword = 32 / kWidth;
  for (int j = 0; j < op.depth(); ++j) {
    const uint32_t* row = registers[j / kPerDword];
    const int shift = j % kPerDword * kWidth;
    for (int group = 0; group < kLanes; group += op.size) {
      const int block = group / op.size % op.blocks;
      const int k = group / (op.size * op.blocks) * op.depth() + j;
      T* to = matrix + (block * op.k + k) * op.size;
      for (int i = 0; i < op.size; ++i) to[i] = static_cast<T>(value_of<kElement>(row[group + i] >> shift));
    }
  }
}

template <class T>
void gather(const MatrixOp& op, Element element, const uint32_t (*registers)[kLanes], T* matrix) {
  switch (element) {
    case Element::kBf16:
      return gather_elements<Element::kBf16>(op, registers, matrix);
    case Element::kF16:
      return gather_elements<Element::kF16>(op, registers, matrix);
    case Element::kF32:
      return gather_elements<Element::kF32>(op, registers, matrix);
    case Element::kFp8:
      return gather_elements<Element::kFp8>(op, registers, matrix);
    case Element::kBf8:
      return gather_elements<Element::kBf8>(op, registers, matrix);
    case Element::kI8:
      return gather_elements<Element::kI8>(op, registers, matrix);
  }
}

// The row and the block that register `i` holds for the lanes from `group` on.
struct ResultPlace {
  int row, block;
};
ResultPlace result_place(const MatrixOp& op, int i, int group) {
  if (op.size == 32) return {8 * (i % 16 / 4) + 4 * (group / 32) + i % 4, i / 16};
  if (op.size == 16) return {4 * (group / 16) + i % 4, i / 4};
  return {i, group / 4};
}

inline float multiply_add(float a, float b, float c) { return std::fma(a, b, c); }
inline uint32_t multiply_add(int32_t a, int32_t b, uint32_t c) { return static_cast<uint32_t>(a * b) + c; }

// `kSize` columns of one row: a constant, so that they stay in vector registers over k.
template <int kSize, class T, class Sum>
void multiply_row(const T* a, const T* b, int k, Sum* sums) {
  Sum local[kSize];
  for (int column = 0; column < kSize; ++column) local[column] = sums[column];
  for (int i = 0; i < k; ++i) {
    for (int column = 0; column < kSize; ++column) {
      local[column] = multiply_add(a[i * kSize], b[i * kSize + column], local[column]);
    }
  }
  for (int column = 0; column < kSize; ++column) sums[column] = local[column];
}

// T: what elements become; Sum: what they are added up in, as wide as a register.
template <int kSize, class T, class Sum>
void run_matrix(Wave& wave, const Instruction& instruction) {
  const MatrixOp& op = instruction.matrix_op;
  alignas(64) T a[kMostElements];
  alignas(64) T b[kMostElements];
  alignas(64) Sum sums[32][kLanes];
  gather(op, op.a, wave.v + instruction.sources[0].index, a);
  gather(op, op.b, wave.v + instruction.sources[1].index, b);
  const Operand& c = instruction.sources[2];
  const int results = op.results();
  for (int i = 0; i < results; ++i) {
    if (c.is_vector()) {
      memcpy(sums[i], wave.v[c.index + i], sizeof(sums[i]));
    } else {
      for (Sum& sum : sums[i]) sum = bit_cast<Sum>(static_cast<uint32_t>(c.literal));
    }
  }
  for (int i = 0; i < results; ++i) {
    for (int group = 0; group < kLanes; group += kSize) {
      const ResultPlace place = result_place(op, i, group);
      const int offset = place.block * op.k * kSize;
      multiply_row<kSize>(a + offset + place.row, b + offset, op.k, sums[i] + group);
    }
  }
  memcpy(wave.v[instruction.destination.index], sums, results * sizeof(sums[0]));
}

// v_mfma_f64_16x16x4: rows of D are 4 * i + l / 16.
void run_matrix_f64(Wave& wave, const Instruction& instruction) {
  constexpr int kSize = 16, kDepth = 4;
  double a[kSize][kDepth], b[kDepth][kSize], d[kDepth][kLanes];
  const Operand& c = instruction.sources[2];
  for (int lane = 0; lane < kLanes; ++lane) {
    a[lane % kSize][lane / kSize] = bit_cast<double>(wave.vector_pair(instruction.sources[0].index, lane));
    b[lane / kSize][lane % kSize] = bit_cast<double>(wave.vector_pair(instruction.sources[1].index, lane));
  }
  for (int i = 0; i < kDepth; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) {
      double sum = bit_cast<double>(c.is_vector() ? wave.vector_pair(c.index + 2 * i, lane) : c.literal);
      for (int k = 0; k < kDepth; ++k) sum = std::fma(a[lane / kSize + 4 * i][k], b[k][lane % kSize], sum);
      d[i][lane] = sum;
    }
  }
  for (int i = 0; i < kDepth; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const uint64_t bits = bit_cast<uint64_t>(d[i][lane]);
      wave.v[instruction.destination.index + 2 * i][lane] = static_cast<uint32_t>(bits);
      wave.v[instruction.destination.index + 2 * i + 1][lane] = static_cast<uint32_t>(bits >> 32);
    }
  }
}

struct NamedElement {
  const char* name;
  Element element;
};
constexpr NamedElement kElements[] = {{"bf16", Element::kBf16}, {"f16", Element::kF16}, {"f32", Element::kF32},
                                      {"fp8", Element::kFp8},   {"bf8", Element::kBf8}, {"i8", Element::kI8}};

// "16x16x4_4b_bf16" and "32x32x16_fp8_bf8", the part of the mnemonic behind the type of the result.
bool parse_shape(const std::string& shape, MatrixOp* op) {
  int other = 0, used = 0;
  if (sscanf(shape.c_str(), "%dx%dx%d%n", &op->size, &other, &op->k, &used) != 3 || op->size != other) return false;
  op->blocks = 1;
  std::string rest = shape.substr(used);
  int block_text = 0;
  if (sscanf(rest.c_str(), "_%db%n", &op->blocks, &block_text) == 1 && block_text > 0 && rest[block_text] == '_') {
    rest = rest.substr(block_text);
  } else {
    op->blocks = 1;
  }
  if (rest.empty()) return false;
  const std::string types = rest.substr(1);
  const size_t cut = types.find('_');
  const std::string first = types.substr(0, cut);
  const std::string second = cut == std::string::npos ? first : types.substr(cut + 1);
  bool found_a = false, found_b = false;
  for (const NamedElement& named : kElements) {
    if (first == named.name) found_a = true, op->a = named.element;
    if (second == named.name) found_b = true, op->b = named.element;
  }
  const bool known_size = op->size == 32 || op->size == 16 || op->size == 4;
  return found_a && found_b && known_size && op->k * op->size * op->blocks <= kMostElements && op->depth() >= 1 &&
         op->results() <= 32;
}

template <class T, class Sum>
Handler handler_of(int size) {
  if (size == 32) return run_matrix<32, T, Sum>;
  return size == 16 ? static_cast<Handler>(run_matrix<16, T, Sum>) : static_cast<Handler>(run_matrix<4, T, Sum>);
}

}  // namespace

bool decode_matrix(const Syntax& syntax, Instruction* instruction) {
  if (!starts_with(syntax.mnemonic, "v_mfma_")) return false;
  if (syntax.operands.size() != 4) throw NotModelled{"the operands"};
  for (const auto& modifier : syntax.modifiers) throw NotModelled{"modifier " + modifier.first};
  instruction->cls = GFXSIM_CLASS_MFMA;
  const std::string shape = syntax.mnemonic.substr(strlen("v_mfma_f32_"));
  const bool double_precision = syntax.mnemonic == "v_mfma_f64_16x16x4_f64";
  const bool integer = starts_with(syntax.mnemonic, "v_mfma_i32_");
  MatrixOp op = {};
  if (double_precision) {
    op = {16, 4, 1, Element::kF32, Element::kF32};
    instruction->run = run_matrix_f64;
  } else {
    if (!parse_shape(shape, &op)) return false;
    instruction->run = integer ? handler_of<int32_t, uint32_t>(op.size) : handler_of<float, float>(op.size);
  }
  instruction->matrix_op = op;
  instruction->destination = vector_destination(syntax.operands[0]);
  const ValueType type = double_precision ? ValueType::kF64 : integer ? ValueType::kI32 : ValueType::kF32;
  for (int i = 1; i < 4; ++i) instruction->add_source(parse_operand(syntax.operands[i], type));
  return true;
}

}  // namespace gfxsim
