// SPDX-License-Identifier: Apache-2.0
#pragma once

// The part of DLPack's binary interface (version 1.3, github.com/dmlc/dlpack) by which a framework
// shows where a tensor lies without handing it over. Names and order of the fields are DLPack's.

#include <cstdint>

namespace syncbn::python::dlpack {

enum class DeviceType : std::int32_t { cpu = 1, cuda = 2, cuda_host = 3, cuda_managed = 13 };
enum class TypeCode : std::uint8_t { integer = 0, floating = 2, bfloat = 4 };

struct Device {
  DeviceType type;
  std::int32_t index;
};

struct DataType {
  TypeCode code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  ///< in elements
  std::uint64_t byte_offset;
};

/// A table that a tensor's type holds as a capsule, its attribute __dlpack_c_exchange_api__.
struct ExchangeApi {
  static constexpr const char* attribute = "__dlpack_c_exchange_api__";
  static constexpr const char* capsule = "dlpack_exchange_api";
  static constexpr std::uint32_t major_version = 1;

  struct {
    std::uint32_t major, minor;
    void* previous;
  } header;
  void* managed_tensor_allocator;
  void* managed_tensor_from_py_object_no_sync;
  void* managed_tensor_to_py_object_no_sync;
  /// Describes a tensor, which stays its owner's. May be null.
  int (*dltensor_from_py_object_no_sync)(void* py_object, Tensor* out);
  /// Writes the stream on which the framework works at the moment.
  int (*current_work_stream)(DeviceType type, std::int32_t index, void** out);
};

}  // namespace syncbn::python::dlpack
