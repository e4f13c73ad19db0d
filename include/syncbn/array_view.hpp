// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "syncbn/device.hpp"
#include "syncbn/dtype.hpp"

namespace syncbn {

/// A ConstArrayView is a read-only view of dense values of any float type in the memory of a
/// device. It owns nothing: the memory must outlive what the view is passed to, which says for how
/// long, and checks what it is given. Values are aligned to their own size.
class ConstArrayView {
 public:
  ConstArrayView() = default;  ///< a view of nothing
  ConstArrayView(const void* data, DType dtype, std::int64_t size, Device device = Device::cpu())
      : data_(data), size_(size), dtype_(dtype), device_(device) {}
  ConstArrayView(std::span<const double> values, Device device = Device::cpu())
      : ConstArrayView(values.data(), DType::f64, static_cast<std::int64_t>(values.size()),
                       device) {}
  ConstArrayView(std::span<const float> values, Device device = Device::cpu())
      : ConstArrayView(values.data(), DType::f32, static_cast<std::int64_t>(values.size()),
                       device) {}
  ConstArrayView(std::span<double> values, Device device = Device::cpu())
      : ConstArrayView(std::span<const double>(values), device) {}
  ConstArrayView(std::span<float> values, Device device = Device::cpu())
      : ConstArrayView(std::span<const float>(values), device) {}
  ConstArrayView(const std::vector<double>& values)
      : ConstArrayView(std::span<const double>(values)) {}
  ConstArrayView(const std::vector<float>& values)
      : ConstArrayView(std::span<const float>(values)) {}

  const void* data() const { return data_; }
  DType dtype() const { return dtype_; }
  std::int64_t size() const { return size_; }
  Device device() const { return device_; }
  bool empty() const { return size_ == 0; }

 private:
  const void* data_ = nullptr;
  std::int64_t size_ = 0;
  DType dtype_ = DType::f64;
  Device device_;
};

/// An ArrayView is a ConstArrayView whose values may be written.
class ArrayView {
 public:
  ArrayView() = default;  ///< a view of nothing
  ArrayView(void* data, DType dtype, std::int64_t size, Device device = Device::cpu())
      : data_(data), size_(size), dtype_(dtype), device_(device) {}
  template <class T>
  requires(std::is_same_v<T, float> || std::is_same_v<T, double>)
      ArrayView(std::span<T> values, Device device = Device::cpu())
      : ArrayView(values.data(), std::is_same_v<T, double> ? DType::f64 : DType::f32,
                  static_cast<std::int64_t>(values.size()), device) {}

  operator ConstArrayView() const { return {data_, dtype_, size_, device_}; }

  template <class T>
  requires(std::is_same_v<T, float> || std::is_same_v<T, double>) ArrayView(std::vector<T>& values)
      : ArrayView(std::span<T>(values)) {}

  void* data() const { return data_; }
  DType dtype() const { return dtype_; }
  std::int64_t size() const { return size_; }
  Device device() const { return device_; }
  bool empty() const { return size_ == 0; }

 private:
  void* data_ = nullptr;
  std::int64_t size_ = 0;
  DType dtype_ = DType::f64;
  Device device_;
};

}  // namespace syncbn
