// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "syncbn/error.hpp"
#include "syncbn/state.hpp"

#include "core/visit_dtype.hpp"

namespace syncbn {
namespace {

struct Entry {
  std::string_view name;
  std::size_t bytes;
};

// The entries are in the order of StateDType.
constexpr std::array<Entry, 14> dtypes = {{{"BOOL", 1},
                                           {"U8", 1},
                                           {"I8", 1},
                                           {"I16", 2},
                                           {"U16", 2},
                                           {"F16", 2},
                                           {"BF16", 2},
                                           {"I32", 4},
                                           {"U32", 4},
                                           {"F32", 4},
                                           {"F64", 8},
                                           {"I64", 8},
                                           {"U64", 8},
                                           {"other", 0}}};

template <class T>
StateTensor tensor_of(StateDType dtype, std::vector<std::int64_t> shape,
                      std::span<const T> values) {
  StateTensor tensor{dtype, std::move(shape), {}};
  const std::span<const std::byte> bytes = std::as_bytes(values);
  tensor.bytes.assign(bytes.begin(), bytes.end());
  return tensor;
}

template <class T>
std::vector<double> doubles_from(std::span<const std::byte> bytes) {
  std::vector<double> values(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    T element;
    std::memcpy(&element, bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = to_double(element);
  }
  return values;
}

[[noreturn]] void throw_type(std::string_view name, const StateTensor& tensor,
                             std::string_view expected) {
  throw FileError("tensor '" + std::string(name) + "' is " + std::string(tensor.type_name()) +
                  " (" + std::string(expected) + " expected)");
}

/// Returns the one integer in `bytes`, or nothing if there are none or more, or it does not fit
/// int64.
template <class T>
std::optional<std::int64_t> one_integer(std::span<const std::byte> bytes) {
  T value;
  if (bytes.size() != sizeof value) {
    return std::nullopt;
  }
  std::memcpy(&value, bytes.data(), sizeof value);
  return std::in_range<std::int64_t>(value) ? std::optional(static_cast<std::int64_t>(value))
                                            : std::nullopt;
}

/// Returns the one value if it is whole and below 2^63 in magnitude, or nothing.
std::optional<std::int64_t> one_whole(const std::vector<double>& values) {
  constexpr double beyond = 9223372036854775808.0;  // 2^63
  return values.size() == 1 && std::trunc(values[0]) == values[0] && std::abs(values[0]) < beyond
             ? std::optional(static_cast<std::int64_t>(values[0]))
             : std::nullopt;
}

std::optional<std::int64_t> one_number(const StateTensor& tensor, std::string_view name) {
  switch (tensor.dtype) {
    case StateDType::u8:
      return one_integer<std::uint8_t>(tensor.bytes);
    case StateDType::i8:
      return one_integer<std::int8_t>(tensor.bytes);
    case StateDType::i16:
      return one_integer<std::int16_t>(tensor.bytes);
    case StateDType::u16:
      return one_integer<std::uint16_t>(tensor.bytes);
    case StateDType::i32:
      return one_integer<std::int32_t>(tensor.bytes);
    case StateDType::u32:
      return one_integer<std::uint32_t>(tensor.bytes);
    case StateDType::i64:
      return one_integer<std::int64_t>(tensor.bytes);
    case StateDType::u64:
      return one_integer<std::uint64_t>(tensor.bytes);
    case StateDType::boolean:
    case StateDType::other:
      throw_type(name, tensor, "an integer");
    default:
      return one_whole(tensor.as_doubles(name));
  }
}

}  // namespace

std::string_view to_string(StateDType dtype) {
  return dtypes[static_cast<std::size_t>(dtype)].name;
}

std::size_t size_of(StateDType dtype) {
  return dtypes[static_cast<std::size_t>(dtype)].bytes;
}

StateTensor StateTensor::from(const std::vector<double>& values) {
  return tensor_of(StateDType::f64, {static_cast<std::int64_t>(values.size())},
                   std::span<const double>(values));
}

StateTensor StateTensor::from(const std::vector<float>& values) {
  return tensor_of(StateDType::f32, {static_cast<std::int64_t>(values.size())},
                   std::span<const float>(values));
}

StateTensor StateTensor::from(std::int64_t scalar) {
  return tensor_of(StateDType::i64, {}, std::span<const std::int64_t>(&scalar, 1));
}

std::string_view StateTensor::type_name() const {
  return dtype == StateDType::other ? std::string_view(other_type) : to_string(dtype);
}

std::vector<double> StateTensor::as_doubles(std::string_view name) const {
  switch (dtype) {
    case StateDType::f64:
      return doubles_from<double>(bytes);
    case StateDType::f32:
      return doubles_from<float>(bytes);
    case StateDType::f16:
      return doubles_from<Float16>(bytes);
    case StateDType::bf16:
      return doubles_from<BFloat16>(bytes);
    default:
      throw_type(name, *this, "F16, BF16, F32 or F64");
  }
}

std::int64_t StateTensor::as_integer(std::string_view name) const {
  const std::optional<std::int64_t> value = one_number(*this, name);
  if (!value) {
    throw_type(name, *this, "one whole number");
  }
  return *value;
}

}  // namespace syncbn
