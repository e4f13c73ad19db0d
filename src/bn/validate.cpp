// SPDX-License-Identifier: Apache-2.0
#include "bn/validate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "syncbn/error.hpp"

#include "bn/layer.hpp"
#include "bn/place.hpp"
#include "cuda/device_buffer.hpp"

namespace syncbn::bn {
namespace {

std::string describe(const ConstTensorView& tensor) {
  const Shape& shape = tensor.shape();
  return "n=" + std::to_string(shape.n) + " c=" + std::to_string(shape.c) +
         " s=" + std::to_string(shape.s) + " " + std::string(to_string(tensor.dtype())) + " " +
         std::string(to_string(tensor.layout()));
}

enum class Overlap : std::uint8_t { none, whole };

/// Returns whether the two share bytes in a way that is not allowed. Memory of no bytes overlaps
/// nothing.
bool overlap(const Memory& written, const Memory& other, Overlap allowed) {
  const auto a = reinterpret_cast<std::uintptr_t>(written.data);
  const auto b = reinterpret_cast<std::uintptr_t>(other.data);
  if (written.bytes == 0 || other.bytes == 0 || a + written.bytes <= b || b + other.bytes <= a) {
    return false;
  }
  return allowed == Overlap::none || a != b;
}

std::string describe_overlap(const Memory& written, const Memory& other, Overlap allowed) {
  const auto a = reinterpret_cast<std::uintptr_t>(written.data);
  const auto b = reinterpret_cast<std::uintptr_t>(other.data);
  const std::string where = a == b
                                ? "the same memory"
                                : "it begins " + std::to_string(a > b ? a - b : b - a) + " bytes " +
                                      (a > b ? "behind" : "before") + " its beginning";
  return std::string(written.name) + " overlaps " + std::string(other.name) + " (" + where +
         "). Give it memory of its own" +
         (allowed == Overlap::whole ? ", or all of " + std::string(other.name) + "'s." : ".");
}

void require_apart(const Memory& written, const Memory& other, Overlap allowed) {
  if (overlap(written, other, allowed)) {
    throw InvalidArgument(describe_overlap(written, other, allowed));
  }
}

[[noreturn]] void refuse(const Layer& layer, const std::string& why) {
  throw InvalidArgument("layer '" + layer.identity.label + "': " + why);
}

void require_channels(const ConstTensorView& x, const Layer& layer) {
  if (x.shape().c != layer.channels) {
    throw InvalidArgument("x has " + std::to_string(x.shape().c) + " channels (layer '" +
                          layer.identity.label + "' has " + std::to_string(layer.channels) +
                          "). Were the axes given in the tensor's own order?");
  }
}

/// Requires that x is where the layer is.
void require_here(const ConstTensorView& x, const Layer& layer, const Place& place) {
  if (x.device() != place.device()) {
    refuse(layer, "x is on " + to_string(x.device()) + " (the layer is on " +
                      to_string(place.device()) + "). Give tensors where the layer is.");
  }
  require_held("x", x);
}

/// Requires that what a pass writes is apart from the caller's memory that the layer uses.
void require_apart_from_layer(const Memory& written, const Layer& layer) {
  const auto require = [&](const char* name, const channels::Floats& in_use,
                           const channels::Floats& own) {
    if (in_use.data() != own.data()) {
      const std::size_t bytes = size_of(in_use.dtype());
      require_apart(written, {Memory{name, in_use.data(),
                                     static_cast<std::size_t>(layer.channels) * bytes, bytes}});
    }
  };
  const StateArrays &state = layer.state, &own = layer.own;
  require("weight", state.weight, own.weight);
  require("bias", state.bias, own.bias);
  require("weight_grad", state.weight_grad, own.weight_grad);
  require("bias_grad", state.bias_grad, own.bias_grad);
  require("running_mean", state.running_mean, own.running_mean);
  require("running_var", state.running_var, own.running_var);
}

/// Requires that what a pass writes is apart from a record in the caller's memory.
void require_apart_from_record(const Memory& written, const ForwardRecord::Impl& record) {
  if (record.is_callers) {
    require_apart(written,
                  {Memory{"the record", record.memory.data,
                          ForwardRecord::length(record.memory.capacity) * sizeof(double)}});
  }
}

void require_own_record(const ForwardNote& note, const Layer& layer) {
  if (note.forward == 0) {
    refuse(layer, "the record is empty (no forward has filled it). Pass the forward's own.");
  }
  if (note.layer_number != layer.identity.number) {
    refuse(layer, "the record is of a forward of " +
                      (note.layer == layer.identity.name ? "another layer of that name"
                       : note.layer.empty()              ? "another layer"
                                                         : "layer '" + note.layer + "'") +
                      ". Pass the forward's own.");
  }
}

/// Requires that the backward has what the forward had.
void require_same_kind(const ForwardNote& note, const BackwardArguments& arguments,
                       const Layer& layer) {
  const ConstTensorView& x = arguments.x;
  if (x.shape() != note.shape || x.dtype() != note.dtype || x.layout() != note.layout) {
    refuse(layer,
           "x is not the forward's (another shape, type or layout than the record holds). Pass the "
           "tensors of the same forward.");
  }
  if (note.in_place != arguments.in_place) {
    refuse(layer, note.in_place ? "the forward was in place. Call backward_in_place."
                                : "the forward was not in place. Call backward.");
  }
  if (note.had_weights == arguments.position_weights.empty() && x.shape().per_channel() != 0) {
    refuse(layer, note.had_weights ? "the forward had weights. Pass the same."
                                   : "the forward had no weights.");
  }
  if (note.had_residual != arguments.dresidual.has_value()) {
    refuse(layer, note.had_residual ? "the forward added a residual. Pass y and dresidual."
                                    : "the forward added no residual. Leave out y and dresidual.");
  }
}

}  // namespace

void require_like_x(const ConstTensorView& x, const ConstTensorView& other, std::string_view name) {
  if (other.shape() != x.shape() || other.dtype() != x.dtype() || other.layout() != x.layout()) {
    throw InvalidArgument(std::string(name) + " is " + describe(other) + " (x is " + describe(x) +
                          "). They must have the same shape, type and layout.");
  }
  if (other.device() != x.device()) {
    throw InvalidArgument(std::string(name) + " is on " + to_string(other.device()) + " (x is on " +
                          to_string(x.device()) + "). They must be on the same device.");
  }
}

void require_length(std::size_t length, std::size_t expected, std::string_view name,
                    const ConstTensorView& x) {
  if (length != expected) {
    throw InvalidArgument(std::string(name) + " has " + std::to_string(length) +
                          " values (x with " + std::to_string(x.shape().c) + " channels needs " +
                          std::to_string(expected) + ")");
  }
}

void require_eps(double eps, std::string_view whose) {
  if (!(eps >= 0 && std::isfinite(eps))) {
    throw InvalidArgument(std::string(whose) + "eps = " + std::to_string(eps) +
                          " (a finite number of at least 0)");
  }
}

void require_slope(Activation activation) {
  if (!(activation.negative_slope >= 0 && std::isfinite(activation.negative_slope))) {
    throw InvalidArgument("negative_slope = " + std::to_string(activation.negative_slope) +
                          " (a finite number of at least 0)");
  }
}

void require_invertible(Activation activation, channels::ConstFloats gamma, std::int64_t channels) {
  constexpr double least = std::numeric_limits<float>::min();  // whose inverse is a float
  if (activation.negative_slope < least) {
    throw InvalidArgument(
        "relu cannot be inverted (it forgets what was below 0), so the input cannot be recovered "
        "from the output. Use leaky_relu, or keep the input.");
  }
  for (std::int64_t c = 0; gamma && c < channels; ++c) {
    if (std::fabs(gamma[c]) < least) {
      throw InvalidArgument(
          "gamma[" + std::to_string(c) +
          "] is 0 or next to it (its channel's output is beta everywhere), so the input cannot be "
          "recovered from the output. Keep the input.");
    }
  }
}

void require_array(std::string_view name, const ConstArrayView& array, std::int64_t channels,
                   Device device) {
  if (array.data() == nullptr) {
    throw InvalidArgument(std::string(name) + " is null (" + std::to_string(channels) +
                          " values expected)");
  }
  if (array.size() != channels) {
    throw InvalidArgument(std::string(name) + " has " + std::to_string(array.size()) +
                          " values (one for each of " + std::to_string(channels) +
                          " channels expected)");
  }
  if (array.device() != device) {
    throw InvalidArgument(std::string(name) + " is on " + to_string(array.device()) +
                          " (what it belongs to is on " + to_string(device) + ")");
  }
  const std::size_t bytes = size_of(array.dtype());
  require_aligned({name, array.data(), static_cast<std::size_t>(channels) * bytes, bytes});
}

void require_count(PositionWeights position_weights, const ConstTensorView& x) {
  const auto positions = static_cast<std::size_t>(x.shape().per_channel());
  if (!position_weights.empty() && position_weights.size() != positions) {
    throw InvalidArgument("position_weights has " + std::to_string(position_weights.size()) +
                          " values (x has N*S = " + std::to_string(positions) + " positions)");
  }
}

void require_held(std::string_view name, const void* memory, Device device) {
  if (!device.is_cpu() && !cuda::is_memory_of(device.index(), memory)) {
    throw InvalidArgument(std::string(name) + " is not in the memory of " + to_string(device) +
                          ". Pass memory that is: of cudaMalloc, or of allocate_device_memory.");
  }
}

void require_held(std::string_view name, const ConstTensorView& tensor) {
  if (tensor.shape().size() > 0) {
    require_held(name, tensor.data(), tensor.device());
  }
}

void validate(const ForwardArguments& arguments, const Layer& layer, const Place& place,
              const ForwardRecord::Impl* record) {
  const ConstTensorView& x = arguments.x;
  require_channels(x, layer);
  require_here(x, layer, place);
  require_like_x(x, arguments.y, "y");
  require_held("y", arguments.y);
  if (arguments.residual) {
    require_like_x(x, *arguments.residual, "residual");
    require_held("residual", *arguments.residual);
    if (arguments.in_place) {
      refuse(layer,
             "a residual in place (the input cannot be recovered from a sum). Call forward.");
    }
  }
  if (!arguments.position_weights.empty()) {
    require_held("position_weights", arguments.position_weights.data(), place.device());
  }
  require_count(arguments.position_weights, x);
  const CallMemory memory = memory_of(arguments);
  require_sound(memory);
  require_apart_from_layer(memory.written[0], layer);
  if (record != nullptr) {
    require_apart_from_record(memory.written[0], *record);
  }
}

void validate(const BackwardArguments& arguments, const Layer& layer, const Place& place,
              const ForwardRecord::Impl& record) {
  const ConstTensorView& x = arguments.x;
  if (arguments.y && !arguments.dresidual) {
    refuse(layer,
           "y and dresidual go together (both for a forward with a residual, else neither).");
  }
  if (arguments.dresidual && !arguments.y && layer.options.activation.negative_slope != 1) {
    refuse(layer,
           "dresidual without y (with an activation, y tells where it was 0 or less). Pass the "
           "forward's output as y.");
  }
  require_own_record(record.note, layer);
  require_channels(x, layer);
  require_same_kind(record.note, arguments, layer);
  require_here(x, layer, place);
  require_like_x(x, arguments.dy, "dy");
  require_like_x(x, arguments.dx, "dx");
  require_held("dy", arguments.dy);
  require_held("dx", arguments.dx);
  if (arguments.y) {
    require_like_x(x, *arguments.y, "y");
    require_held("y", *arguments.y);
  }
  if (arguments.dresidual) {
    require_like_x(x, *arguments.dresidual, "dresidual");
    require_held("dresidual", *arguments.dresidual);
  }
  if (!arguments.position_weights.empty()) {
    require_held("position_weights", arguments.position_weights.data(), place.device());
  }
  require_count(arguments.position_weights, x);
  const CallMemory memory = memory_of(arguments);
  require_sound(memory);
  for (const Memory& written : memory.written) {
    require_apart_from_layer(written, layer);
    require_apart_from_record(written, record);
  }
}

Memory memory_of(std::string_view name, const ConstTensorView& tensor) {
  const std::size_t element = size_of(tensor.dtype());
  return {name, tensor.data(), static_cast<std::size_t>(tensor.shape().size()) * element, element};
}

CallMemory memory_of(const ForwardArguments& arguments) {
  const std::optional<ConstTensorView>& residual = arguments.residual;
  return {
      .written = {memory_of("y", arguments.y)},
      .read = {memory_of("x", arguments.x), residual ? memory_of("residual", *residual) : Memory(),
               memory_of("position_weights", arguments.position_weights)},
      .replaceable = 2};
}

CallMemory memory_of(const BackwardArguments& arguments) {
  const std::optional<TensorView>& dresidual = arguments.dresidual;
  return {.written = {memory_of("dx", arguments.dx),
                      dresidual ? memory_of("dresidual", *dresidual) : Memory()},
          .read = {memory_of("dy", arguments.dy), memory_of("x", arguments.x),
                   arguments.y ? memory_of("y", *arguments.y) : Memory(),
                   memory_of("position_weights", arguments.position_weights)},
          .replaceable = 1};
}

void require_aligned(const Memory& memory) {
  const std::uintptr_t beside =
      reinterpret_cast<std::uintptr_t>(memory.data) & (memory.alignment - 1);
  if (beside != 0 && memory.bytes != 0) {
    throw InvalidArgument(std::string(memory.name) + " begins " + std::to_string(beside) +
                          " bytes behind a multiple of " + std::to_string(memory.alignment) +
                          " (values are aligned to their size). Copy it to aligned memory.");
  }
}

void require_apart(const Memory& written, std::initializer_list<Memory> others) {
  for (const Memory& other : others) {
    require_apart(written, other, Overlap::none);
  }
}

void require_sound(const CallMemory& call) {
  for (std::size_t i = 0; i < call.read.size(); ++i) {
    require_aligned(call.read[i]);
    for (const Memory& written : call.written) {
      require_apart(written, call.read[i], i < call.replaceable ? Overlap::whole : Overlap::none);
    }
  }
  require_apart(call.written[1], call.written[0], Overlap::none);
}

void require_apart(const CallMemory& one, std::string_view layer, const CallMemory& other,
                   std::string_view other_layer) {
  const auto require = [&](const Memory& written, const Memory& given) {
    if (overlap(written, given, Overlap::none)) {
      throw InvalidArgument("layer '" + std::string(layer) + "' beside layer '" +
                            std::string(other_layer) +
                            "': " + describe_overlap(written, given, Overlap::none));
    }
  };
  for (const Memory& written : one.written) {
    for (const Memory& given : other.written) {
      require(written, given);
    }
    for (const Memory& given : other.read) {
      require(written, given);
    }
  }
}

}  // namespace syncbn::bn
