// SPDX-License-Identifier: Apache-2.0
#pragma once

// Structs that a C program fills begin with their size. A program that was compiled with an older
// header passes a smaller one, whose missing members get their defaults; one that was compiled with
// a newer header may pass a larger one, if what this library does not know is 0.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <span>
#include <string>

#include "syncbn/c/syncbn.h"
#include "syncbn/error.hpp"

#include "capi/guarded.hpp"

namespace syncbn::capi {

/// Says how a struct looked in the first version of the interface, and what initializes it.
template <class T>
struct FirstVersion;

template <>
struct FirstVersion<syncbn_tensor> {
  static constexpr std::size_t size =
      offsetof(syncbn_tensor, device) + sizeof(syncbn_tensor::device);
  static constexpr const char* initializer = "SYNCBN_TENSOR";
};
template <>
struct FirstVersion<syncbn_communicator_options> {
  static constexpr std::size_t size = offsetof(syncbn_communicator_options, exchange) +
                                      sizeof(syncbn_communicator_options::exchange);
  static constexpr const char* initializer = "SYNCBN_COMMUNICATOR_OPTIONS_INIT";
};
template <>
struct FirstVersion<syncbn_counters> {
  static constexpr std::size_t size =
      offsetof(syncbn_counters, seconds) + sizeof(syncbn_counters::seconds);
  static constexpr const char* initializer = "SYNCBN_COUNTERS_INIT";
};
template <>
struct FirstVersion<syncbn_options> {
  static constexpr std::size_t size = offsetof(syncbn_options, user) + sizeof(syncbn_options::user);
  static constexpr const char* initializer = "SYNCBN_OPTIONS_INIT";
};
template <>
struct FirstVersion<syncbn_forward_call> {
  static constexpr std::size_t size =
      offsetof(syncbn_forward_call, record) + sizeof(syncbn_forward_call::record);
  static constexpr const char* initializer = "SYNCBN_FORWARD_CALL_INIT";
};
template <>
struct FirstVersion<syncbn_backward_call> {
  static constexpr std::size_t size =
      offsetof(syncbn_backward_call, dresidual) + sizeof(syncbn_backward_call::dresidual);
  static constexpr const char* initializer = "SYNCBN_BACKWARD_CALL_INIT";
};
template <>
struct FirstVersion<syncbn_layer_memory> {
  static constexpr std::size_t size = offsetof(syncbn_layer_memory, num_batches_tracked) +
                                      sizeof(syncbn_layer_memory::num_batches_tracked);
  static constexpr const char* initializer = "SYNCBN_LAYER_MEMORY_INIT";
};
template <>
struct FirstVersion<syncbn_phase_options> {
  static constexpr std::size_t size =
      offsetof(syncbn_phase_options, backend) + sizeof(syncbn_phase_options::backend);
  static constexpr const char* initializer = "SYNCBN_PHASE_OPTIONS_INIT";
};
template <>
struct FirstVersion<syncbn_pass> {
  static constexpr std::size_t size =
      offsetof(syncbn_pass, from_output) + sizeof(syncbn_pass::from_output);
  static constexpr const char* initializer = "SYNCBN_PASS_INIT";
};
template <>
struct FirstVersion<syncbn_batch_state> {
  static constexpr std::size_t size =
      offsetof(syncbn_batch_state, device) + sizeof(syncbn_batch_state::device);
  static constexpr const char* initializer = "SYNCBN_BATCH_STATE_INIT";
};
template <>
struct FirstVersion<syncbn_state> {
  static constexpr std::size_t size =
      offsetof(syncbn_state, num_batches_tracked) + sizeof(syncbn_state::num_batches_tracked);
  static constexpr const char* initializer = "SYNCBN_STATE_INIT";
};

/// Returns what a program has passed, with the members of `defaults` where its struct has none.
/// Throws InvalidArgument for NULL, for a size that no version has had, and where members that this
/// library does not know are not 0.
template <class T>
T read_struct(const T* given, const char* name, const T& defaults) {
  require(given, name);
  std::size_t size = 0;
  std::memcpy(&size, given, sizeof(size));
  constexpr std::size_t largest = 65536;
  if (size < FirstVersion<T>::size || size > largest) {
    throw InvalidArgument(std::string(name) + ".size is " + std::to_string(size) +
                          " (the struct has at least " + std::to_string(FirstVersion<T>::size) +
                          " bytes). Initialize it with " + FirstVersion<T>::initializer + ".");
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  if (std::any_of(bytes + std::min(size, sizeof(T)), bytes + size,
                  [](unsigned char byte) { return byte != 0; })) {
    throw InvalidArgument(std::string(name) + " sets members that this library, version " +
                          syncbn_version() + ", does not know. Use a newer library.");
  }
  T result = defaults;
  std::memcpy(&result, given, std::min(size, sizeof(T)));
  return result;
}

/// Returns `count` structs that lie `apart` bytes from each other. Throws InvalidArgument if they
/// are not aligned, or their end is beyond all memory.
template <class T>
std::span<const std::byte> to_bytes(const T* structs, std::size_t count, std::size_t apart,
                                    const char* name) {
  constexpr std::size_t most = std::numeric_limits<std::ptrdiff_t>::max();
  if (count > most / apart || apart % alignof(T) != 0) {
    throw InvalidArgument(std::string(name) + " of " + std::to_string(count) + " structs of " +
                          std::to_string(apart) + " bytes (do not fit into memory)");
  }
  to_span(structs, 1, name);  // checks the alignment of the first
  return {reinterpret_cast<const std::byte*>(structs), count * apart};
}

}  // namespace syncbn::capi
