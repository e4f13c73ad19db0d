// SPDX-License-Identifier: Apache-2.0
#include "bn/validate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "syncbn/error.hpp"

namespace syncbn {
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

}  // namespace

void require_like_x(const ConstTensorView& x, const ConstTensorView& other, std::string_view name) {
  if (other.shape() != x.shape() || other.dtype() != x.dtype() || other.layout() != x.layout()) {
    throw InvalidArgument(std::string(name) + " is " + describe(other) + " (x is " + describe(x) +
                          "). They must have the same shape, type and layout.");
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

void require_invertible(Activation activation, std::span<const double> gamma) {
  constexpr double least = std::numeric_limits<float>::min();  // whose inverse is a float
  if (activation.negative_slope < least) {
    throw InvalidArgument(
        "relu cannot be inverted (it forgets what was below 0), so the input cannot be recovered "
        "from the output. Use leaky_relu, or keep the input.");
  }
  const auto zero =
      std::ranges::find_if(gamma, [](double value) { return std::fabs(value) < least; });
  if (zero != gamma.end()) {
    throw InvalidArgument(
        "gamma[" + std::to_string(zero - gamma.begin()) +
        "] is 0 or next to it (its channel's output is beta everywhere), so the input cannot be "
        "recovered from the output. Keep the input.");
  }
}

void require_channels(const ConstTensorView& x, std::int64_t channels, std::string_view layer) {
  if (x.shape().c != channels) {
    throw InvalidArgument("x has " + std::to_string(x.shape().c) + " channels (layer '" +
                          std::string(layer) + "' has " + std::to_string(channels) +
                          "). Were the axes given in the tensor's own order?");
  }
}

void require_backward_of(const Saved& saved, const BackwardContext& context, const TensorView& dx,
                         const std::optional<TensorView>& dresidual, std::int64_t channels,
                         const bn::Identity& identity) {
  const std::string& layer = identity.label;
  if (saved.forward == 0) {
    throw InvalidArgument(
        "layer '" + layer +
        "': `saved` is empty (no forward has filled it). Pass the forward's own.");
  }
  if (saved.layer_number != identity.number) {
    throw InvalidArgument("layer '" + layer + "': `saved` is of a forward of " +
                          (saved.layer == identity.name ? "another layer of that name"
                                                        : "layer '" + saved.layer + "'") +
                          ". Pass the forward's own.");
  }
  require_channels(context.x, channels, layer);
  if (context.x.shape() != saved.shape || context.x.dtype() != saved.dtype ||
      context.x.layout() != saved.layout) {
    throw InvalidArgument("layer '" + layer +
                          "': x is not the forward's (another shape, type or layout than `saved` "
                          "holds). Pass the tensors of the same forward.");
  }
  if (saved.in_place != context.from_output) {
    throw InvalidArgument("layer '" + layer + "': the forward was " +
                          (saved.in_place ? "" : "not ") + "in place. Call " +
                          (saved.in_place ? "backward_in_place." : "backward."));
  }
  if (saved.had_weight == context.position_weights.empty() &&
      context.x.shape().per_channel() != 0) {
    throw InvalidArgument("layer '" + layer + "': the forward had " +
                          (saved.had_weight ? "weights. Pass the same." : "no weights."));
  }
  if (context.y.has_value() != dresidual.has_value()) {
    throw InvalidArgument("layer '" + layer +
                          "': y and dresidual go together (both for a forward with a residual, "
                          "else neither).");
  }
  if (saved.had_residual != dresidual.has_value()) {
    throw InvalidArgument("layer '" + layer + "': the forward " +
                          (saved.had_residual
                               ? "added a residual. Call the backward that takes y "
                                 "and dresidual."
                               : "added no residual. Call the backward without y and "
                                 "dresidual."));
  }
  require_like_x(context.x, context.dy, "dy");
  require_like_x(context.x, dx, "dx");
  if (dresidual) {
    require_like_x(context.x, *context.y, "y");
    require_like_x(context.x, *dresidual, "dresidual");
  }
  require_sound(memory_of_backward(context, dx, dresidual));
}

comm::Given given_in(const Saved& saved) {
  return saved.frozen         ? comm::Given::frozen
         : saved.in_place     ? comm::Given::in_place
         : saved.had_residual ? comm::Given::residual
                              : comm::Given::x;
}

PositionWeights as_span(const float* position_weights, const ConstTensorView& x) {
  return position_weights == nullptr
             ? PositionWeights()
             : PositionWeights(position_weights, static_cast<std::size_t>(x.shape().per_channel()));
}

Memory memory_of(std::string_view name, const ConstTensorView& tensor) {
  const std::size_t element = size_of(tensor.dtype());
  return {name, tensor.data(), static_cast<std::size_t>(tensor.shape().size()) * element, element};
}

CallMemory memory_of_forward(const ConstTensorView& x,
                             const std::optional<ConstTensorView>& residual, const TensorView& y,
                             PositionWeights position_weights) {
  return {.written = {memory_of("y", y)},
          .read = {memory_of("x", x), residual ? memory_of("residual", *residual) : Memory(),
                   memory_of("position_weights", position_weights)},
          .replaceable = 2};
}

CallMemory memory_of_backward(const BackwardContext& context, const TensorView& dx,
                              const std::optional<TensorView>& dresidual) {
  return {
      .written = {memory_of("dx", dx), dresidual ? memory_of("dresidual", *dresidual) : Memory()},
      .read = {memory_of("dy", context.dy), memory_of("x", context.x),
               context.y ? memory_of("y", *context.y) : Memory(),
               memory_of("position_weights", context.position_weights)},
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

}  // namespace syncbn
