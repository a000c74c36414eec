// Products and sums of sizes that notice overflow: argument checks see values up to INT64_MAX.
#pragma once

#include <cstdint>

namespace portattn {

// A size that is computed step by step; once a step overflows, it stays invalid.
class CheckedSize {
 public:
  CheckedSize(int64_t value) : value_(value), valid_(value >= 0) {}  // NOLINT: a size is where a number is

  CheckedSize operator*(CheckedSize other) const {
    CheckedSize result(0);
    result.valid_ = !__builtin_mul_overflow(value_, other.value_, &result.value_) && valid_ && other.valid_;
    return result;
  }
  CheckedSize operator+(CheckedSize other) const {
    CheckedSize result(0);
    result.valid_ = !__builtin_add_overflow(value_, other.value_, &result.value_) && valid_ && other.valid_;
    return result;
  }
  CheckedSize round_up(int64_t multiple) const {
    CheckedSize padded = *this + CheckedSize(multiple - 1);
    padded.value_ = padded.value_ / multiple * multiple;
    return padded;
  }

  bool valid() const { return valid_; }
  int64_t value() const { return value_; }

 private:
  int64_t value_;
  bool valid_;
};

}  // namespace portattn
