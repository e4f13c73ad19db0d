// SPDX-License-Identifier: Apache-2.0
//
// clang-format off
// backward  sums      a = sum(dz), b = sum(dz * (x - mean)), dz = dy behind the activation
//                                                                 one read of x, dy
//           exchange  (a, b, n) summed over the group             one all-reduce of 2C + 1 (+ 8) doubles
//           gradient  dx = gamma * invstd * (dz - a / n - (x - mean) * invstd^2 * b / n)
//                                                                 one read of x, dy, one write of dx
//           dgamma += b * invstd, dbeta += a, of this rank's share or of the group's sums
// clang-format on
//
// With a residual, relu's mask comes from y, which both passes read then.

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "bn/validate.hpp"
#include "comm/group.hpp"

namespace syncbn {
namespace {

void validate(const Saved& saved, const BackwardContext& context, const TensorView& dx,
              const std::optional<TensorView>& dresidual, std::int64_t channels,
              const std::string& layer) {
  if (saved.forward == 0) {
    throw InvalidArgument(
        "layer '" + layer +
        "': `saved` is empty (no forward has filled it). Pass the forward's own.");
  }
  if (saved.layer != layer) {
    throw InvalidArgument("layer '" + layer + "': `saved` is of a forward of layer '" +
                          saved.layer + "'. Pass the forward's own.");
  }
  require_channels(context.x, channels, layer);
  if (context.x.shape() != saved.shape || context.x.dtype() != saved.dtype ||
      context.x.layout() != saved.layout) {
    throw InvalidArgument("layer '" + layer +
                          "': x is not the forward's (another shape, type or layout than `saved` "
                          "holds). Pass the tensors of the same forward.");
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
    if (dresidual->data() == dx.data() && context.x.shape().size() != 0) {
      throw InvalidArgument("layer '" + layer +
                            "': dx and dresidual are the same memory. Only one of them may be dy.");
    }
  }
}

}  // namespace

void BatchNorm::backward(const Saved& saved, ConstTensorView x, ConstTensorView dy, TensorView dx) {
  backward_with(saved, x, std::nullopt, dy, dx, std::nullopt);
}

void BatchNorm::backward(const Saved& saved, ConstTensorView x, ConstTensorView y,
                         ConstTensorView dy, TensorView dx, TensorView dresidual) {
  backward_with(saved, x, y, dy, dx, dresidual);
}

void BatchNorm::backward_with(const Saved& saved, ConstTensorView x,
                              std::optional<ConstTensorView> y, ConstTensorView dy, TensorView dx,
                              std::optional<TensorView> dresidual) {
  const BackwardContext context{.x = x,
                                .dy = dy,
                                .statistics = saved.statistics,
                                .affine = affine(),
                                .activation = options_.activation,
                                .y = y};
  validate(saved, context, dx, dresidual, channels_, options_.name);

  backward_sums(context, own_sums_, options_.backend);
  sums_ = own_sums_;
  group_.group().exchange({.pass = comm::Pass::backward,
                           .layer = options_.name,
                           .channels = channels_,
                           .dtype = x.dtype(),
                           .shared = static_cast<std::uint64_t>(saved.forward)},
                          sums_);
  input_gradient(context, sums_, dx, dresidual, options_.backend);

  const std::vector<double>& share =
      options_.parameter_gradients == GradientScope::local ? own_sums_ : sums_;
  for (std::size_t c = 0; c < weight_grad_.size(); ++c) {
    bias_grad_[c] += share[c];
    weight_grad_[c] += share[weight_grad_.size() + c] * saved.statistics.invstd[c];
  }
}

}  // namespace syncbn
