// SPDX-License-Identifier: Apache-2.0
#pragma once

// These point to values of any float type, which are read and written as doubles. What a layer
// keeps per channel may be the caller's, of the type that the caller has.

#include <cstdint>

#include "syncbn/dtype.hpp"

#include "core/float16_bits.hpp"
#include "core/host_device.hpp"

namespace syncbn::channels {

/// Points to values that are only read. Null stands for none.
class ConstFloats {
 public:
  ConstFloats() = default;
  SYNCBN_HOST_DEVICE ConstFloats(const double* values) : data_(values) {}
  SYNCBN_HOST_DEVICE ConstFloats(const void* data, DType dtype) : data_(data), dtype_(dtype) {}

  SYNCBN_HOST_DEVICE explicit operator bool() const { return data_ != nullptr; }
  const void* data() const { return data_; }
  DType dtype() const { return dtype_; }

  SYNCBN_HOST_DEVICE double operator[](std::int64_t c) const {
    return dtype_ == DType::f64 ? static_cast<const double*>(data_)[c] : narrow(c);
  }

 private:
  SYNCBN_HOST_DEVICE double narrow(std::int64_t c) const {
    if (dtype_ == DType::f32) {
      return static_cast<double>(static_cast<const float*>(data_)[c]);
    }
    const std::uint16_t bits = static_cast<const std::uint16_t*>(data_)[c];
    return dtype_ == DType::f16 ? Float16Bits::decode(bits) : BFloat16Bits::decode(bits);
  }

  const void* data_ = nullptr;
  DType dtype_ = DType::f64;
};

/// Points to values that are read and written. Null stands for none.
class Floats {
 public:
  Floats() = default;
  SYNCBN_HOST_DEVICE Floats(double* values) : data_(values) {}
  SYNCBN_HOST_DEVICE Floats(void* data, DType dtype) : data_(data), dtype_(dtype) {}

  SYNCBN_HOST_DEVICE operator ConstFloats() const { return {data_, dtype_}; }
  SYNCBN_HOST_DEVICE explicit operator bool() const { return data_ != nullptr; }
  void* data() const { return data_; }
  DType dtype() const { return dtype_; }

  SYNCBN_HOST_DEVICE double operator[](std::int64_t c) const {
    return ConstFloats(data_, dtype_)[c];
  }
  /// Rounds to nearest, ties to even.
  SYNCBN_HOST_DEVICE void set(std::int64_t c, double value) const {
    if (dtype_ == DType::f64) {
      static_cast<double*>(data_)[c] = value;
    } else {
      set_narrow(c, value);
    }
  }

 private:
  SYNCBN_HOST_DEVICE void set_narrow(std::int64_t c, double value) const {
    if (dtype_ == DType::f32) {
      static_cast<float*>(data_)[c] = static_cast<float>(value);
    } else {
      static_cast<std::uint16_t*>(data_)[c] =
          dtype_ == DType::f16 ? Float16Bits::encode(value) : BFloat16Bits::encode(value);
    }
  }

  void* data_ = nullptr;
  DType dtype_ = DType::f64;
};

/// Points to doubles, with the functions of Floats: loops over them are faster.
class Doubles {
 public:
  Doubles() = default;
  explicit Doubles(const Floats& floats) : data_(static_cast<double*>(floats.data())) {}

  explicit operator bool() const { return data_ != nullptr; }
  double operator[](std::int64_t c) const { return data_[c]; }
  void set(std::int64_t c, double value) const { data_[c] = value; }

 private:
  double* data_ = nullptr;
};

/// Calls body(a, b) with both arrays as Doubles if they are, else as they are.
template <class Body>
void with_fastest(const Floats& a, const Floats& b, Body body) {
  if (a.dtype() == DType::f64 && b.dtype() == DType::f64) {
    body(Doubles(a), Doubles(b));
  } else {
    body(a, b);
  }
}

/// Returns a value as it is after it has been written to values of that type.
inline double rounded(double value, DType dtype) {
  double place = 0;
  const Floats one(&place, dtype);
  one.set(0, value);
  return one[0];
}

}  // namespace syncbn::channels
