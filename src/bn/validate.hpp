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

#include "bn/options.hpp"
#include "comm/group/descriptor.hpp"

namespace syncbn {

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
/// at least the smallest normal float, so that their inverses are floats.
void require_invertible(Activation activation, std::span<const double> gamma);
void require_channels(const ConstTensorView& x, std::int64_t channels, std::string_view layer);
/// Requires that a forward or infer of the layer has filled `saved`, and that the arguments of the
/// backward belong to it.
void require_backward_of(const Saved& saved, const BackwardContext& context, const TensorView& dx,
                         const std::optional<TensorView>& dresidual, std::int64_t channels,
                         const bn::Identity& layer);

/// Returns what kind of arguments the forward was given, and so its backward.
comm::Given given_in(const Saved& saved);

/// Returns the N * S values at `position_weights`, where x has as many positions; none if it is
/// null.
PositionWeights as_span(const float* position_weights, const ConstTensorView& x);

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
CallMemory memory_of_forward(const ConstTensorView& x,
                             const std::optional<ConstTensorView>& residual, const TensorView& y,
                             PositionWeights position_weights);
CallMemory memory_of_backward(const BackwardContext& context, const TensorView& dx,
                              const std::optional<TensorView>& dresidual);

void require_aligned(const Memory& memory);
/// Requires that `written` shares no byte with any of the others.
void require_apart(const Memory& written, std::initializer_list<Memory> others);
/// Requires that what is read is aligned, and that what is written shares no byte with anything
/// else, except that it may be exactly what it may replace.
void require_sound(const CallMemory& call);
/// Requires that `one` writes nothing that `other` is given.
void require_apart(const CallMemory& one, std::string_view layer, const CallMemory& other,
                   std::string_view other_layer);

}  // namespace syncbn
