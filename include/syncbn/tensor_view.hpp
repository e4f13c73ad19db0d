// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>

#include "syncbn/device.hpp"
#include "syncbn/dtype.hpp"
#include "syncbn/export.h"

namespace syncbn {

/// A Layout is the order of a dense tensor's axes in memory, slowest first.
enum class Layout : std::uint8_t {
  channels_first,  ///< [N, C, S], PyTorch's contiguous NCHW
  channels_last,   ///< [N, S, C], PyTorch's channels_last NHWC
};

constexpr std::string_view to_string(Layout layout) {
  return layout == Layout::channels_first ? "channels_first" : "channels_last";
}

/// A Shape gives the sizes of an activation tensor: n samples, c channels, and s, the product of
/// the spatial sizes (1 for a dense layer's [N, C]). n may be 0: a rank without samples still takes
/// part in every exchange.
struct Shape {
  /// The largest c. Arrays of so many channels would take terabytes, and their sizes still fit 63
  /// bits.
  static constexpr std::int64_t most_channels = std::int64_t{1} << 40;

  std::int64_t n = 0;
  std::int64_t c = 1;
  std::int64_t s = 1;

  constexpr std::int64_t size() const { return n * c * s; }
  constexpr std::int64_t per_channel() const { return n * s; }
  friend constexpr bool operator==(const Shape&, const Shape&) = default;
};

namespace detail {

template <class T>
constexpr DType dtype_of() {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>,
                "for 16-bit elements pass a pointer and the DType");
  return std::is_same_v<T, double> ? DType::f64 : DType::f32;
}

/// Throws InvalidArgument unless n, s >= 0, c is at least 1 and at most Shape::most_channels, and
/// the product of the extents (one of 0 taken as 1) in bytes fits 63 bits; also if there are
/// elements and data is null or not aligned to their size.
SYNCBN_API void validate_view(const void* data, DType dtype, const Shape& shape);

}  // namespace detail

/// A ConstTensorView is a read-only view of a dense tensor in the memory of a device. It owns
/// nothing: the memory must outlive the call the view is passed to, and on a CUDA device the work
/// that the call puts on its stream. Elements are aligned to their own size. Constructors throw
/// InvalidArgument for sizes that cannot be, and for memory that is missing or not aligned.
class ConstTensorView {
 public:
  ConstTensorView(const void* data, DType dtype, Shape shape,
                  Layout layout = Layout::channels_first, Device device = Device::cpu())
      : data_(data), shape_(shape), dtype_(dtype), layout_(layout), device_(device) {
    detail::validate_view(data, dtype, shape);
  }
  template <class T>
  requires std::is_floating_point_v<T> ConstTensorView(const T* data, Shape shape,
                                                       Layout layout = Layout::channels_first,
                                                       Device device = Device::cpu())
      : ConstTensorView(data, detail::dtype_of<T>(), shape, layout, device) {}

  const void* data() const { return data_; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  Layout layout() const { return layout_; }
  Device device() const { return device_; }

 private:
  const void* data_;
  Shape shape_;
  DType dtype_;
  Layout layout_;
  Device device_;
};

/// A TensorView is a ConstTensorView whose elements may be written.
class TensorView {
 public:
  TensorView(void* data, DType dtype, Shape shape, Layout layout = Layout::channels_first,
             Device device = Device::cpu())
      : data_(data), shape_(shape), dtype_(dtype), layout_(layout), device_(device) {
    detail::validate_view(data, dtype, shape);
  }
  template <class T>
  requires std::is_floating_point_v<T> TensorView(T* data, Shape shape,
                                                  Layout layout = Layout::channels_first,
                                                  Device device = Device::cpu())
      : TensorView(data, detail::dtype_of<T>(), shape, layout, device) {}

  operator ConstTensorView() const { return {data_, dtype_, shape_, layout_, device_}; }

  void* data() const { return data_; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  Layout layout() const { return layout_; }
  Device device() const { return device_; }

 private:
  void* data_;
  Shape shape_;
  DType dtype_;
  Layout layout_;
  Device device_;
};

}  // namespace syncbn
