// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstring>
#include <span>

#include "syncbn/error.hpp"
#include "syncbn/state.hpp"

#include "core/visit_dtype.hpp"

namespace syncbn {
namespace {

struct Entry {
  std::string_view name;
  std::size_t bytes;
};

// In the order of StateDType.
constexpr std::array<Entry, 13> dtypes = {{{"BOOL", 1},
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
                                           {"U64", 8}}};

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

[[noreturn]] void throw_type(std::string_view name, StateDType dtype, std::string_view expected) {
  throw FileError("tensor '" + std::string(name) + "' is " + std::string(to_string(dtype)) + " (" +
                  std::string(expected) + " expected)");
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
      throw_type(name, dtype, "a floating type");
  }
}

std::int64_t StateTensor::as_integer(std::string_view name) const {
  if (dtype != StateDType::i64 || bytes.size() != sizeof(std::int64_t)) {
    throw_type(name, dtype, "one I64");
  }
  std::int64_t value = 0;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace syncbn
