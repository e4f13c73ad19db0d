// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "syncbn/batch_norm.hpp"

#include "bn/arguments.hpp"
#include "bn/record.hpp"
#include "channels/floats.hpp"

namespace syncbn::bn {

struct Layer;
class Place;

// Each `require` function throws InvalidArgument naming the argument, what it is and what was
// expected.

void require_like_x(const ConstTensorView& x, const ConstTensorView& other, std::string_view name);
void require_length(std::size_t length, std::size_t expected, std::string_view name,
                    const ConstTensorView& x);
/// Requires that eps is finite and at least 0. `whose` begins the message.
void require_eps(double eps, std::string_view whose = {});
/// Requires that the slope is finite and at least 0.
void require_slope(Activation activation);
/// Requires that a forward's input can be recovered from its output: the slope and each |gamma| are
/// at least the smallest normal float, so that their inverses are floats. `gamma` is null for 1.
void require_invertible(Activation activation, channels::ConstFloats gamma, std::int64_t channels);
/// Requires that the array has one value for each channel, is aligned to them, and on the device.
void require_array(std::string_view name, const ConstArrayView& array, std::int64_t channels,
                   Device device);
/// Requires that there are no weights, or one for each position of x.
void require_count(PositionWeights position_weights, const ConstTensorView& x);
/// Requires that memory that is said to be the device's can be.
void require_held(std::string_view name, const void* memory, Device device);
/// Does that for the tensor's own device, unless the tensor is empty.
void require_held(std::string_view name, const ConstTensorView& tensor);

/// Requires that the arguments fit the layer, each other and the record to be filled, which is null
/// for none. The values of weights are not looked at.
void validate(const ForwardArguments& arguments, const Layer& layer, const Place& place,
              const ForwardRecord::Impl* record);
/// Requires that a forward or infer of the layer has filled `record`, and that the arguments of the
/// backward belong to it.
void validate(const BackwardArguments& arguments, const Layer& layer, const Place& place,
              const ForwardRecord::Impl& record);

/// A Memory is memory that a call is given, and its name in messages.
struct Memory {
  std::string_view name;
  const void* data = nullptr;
  std::size_t bytes = 0;
  std::size_t alignment = 1;
};
Memory memory_of(std::string_view name, const ConstTensorView& tensor);
template <class T>
Memory memory_of(std::string_view name, std::span<T> values) {
  return {name, values.data(), values.size_bytes(), alignof(T)};
}

/// A CallMemory is what a pass writes and reads. An argument that is written may be exactly the
/// same memory as any of the first `replaceable` that are read.
struct CallMemory {
  std::array<Memory, 2> written;
  std::array<Memory, 4> read;
  std::size_t replaceable;
};
CallMemory memory_of(const ForwardArguments& arguments);
CallMemory memory_of(const BackwardArguments& arguments);

void require_aligned(const Memory& memory);
/// Requires that `written` shares no byte with any of the others.
void require_apart(const Memory& written, std::initializer_list<Memory> others);
/// Requires that what is read is aligned, and that what is written shares no byte with anything
/// else, except that it may be exactly what it may replace.
void require_sound(const CallMemory& call);
/// Requires that `one` writes nothing that `other` is given.
void require_apart(const CallMemory& one, std::string_view layer, const CallMemory& other,
                   std::string_view other_layer);

}  // namespace syncbn::bn
