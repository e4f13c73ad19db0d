// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "app/check/layer.hpp"

namespace syncbn::app::check {
namespace {

/// CaseTensors are a rank's tensors of one step. In place, y begins as x and dx as dy.
struct Tensors {
  Tensor x, dy, y, dx;
  Tensor residual, dresidual;  ///< without samples if the case has no residual
  PositionWeights weight;

  Tensors(const Case& one, const Shard& shard, const Batch& batch)
      : x(one, shard, batch.x),
        dy(one, shard, batch.dy),
        y(one.memory == Memory::apart ? Tensor(one, shard) : x),
        dx(one.memory == Memory::apart ? Tensor(one, shard) : dy),
        residual(one.residual ? Tensor(one, shard, batch.residual) : Tensor(one, Shard{})),
        dresidual(one, one.residual ? shard : Shard{}),
        weight(weight_of(one, batch, shard)) {}
};

std::vector<double> to_vector(std::span<const double> values) {
  return {values.begin(), values.end()};
}

class HostLayer final : public Layer {
 public:
  HostLayer(const Case& one, const Parameters& parameters, const Shard& shard,
            const Communicator& ranks)
      : one_(one), shard_(shard), layer_(one.shape.c, ranks, options_of(one)) {
    std::ranges::copy(parameters.gamma, layer_.weight().begin());
    std::ranges::copy(parameters.beta, layer_.bias().begin());
  }

  StepResults train(const Batch& batch) override {
    Tensors tensors(one_, shard_, batch);
    layer_.zero_grad();
    forward(tensors);
    backward(tensors);
    return {.y = tensors.y.values(),
            .dx = tensors.dx.values(),
            .dresidual = tensors.dresidual.values(),
            .weight_grad = to_vector(layer_.weight_grad()),
            .bias_grad = to_vector(layer_.bias_grad()),
            .running_mean = to_vector(layer_.running_mean()),
            .running_var = to_vector(layer_.running_var())};
  }

 private:
  void forward(Tensors& tensors) {
    const TensorView x = one_.memory == Memory::apart ? tensors.x.view() : tensors.y.view();
    if (one_.memory == Memory::recovered) {
      layer_.forward_in_place(x, saved_, tensors.weight);
    } else if (one_.residual) {
      layer_.forward(x, tensors.residual.view(), tensors.y.view(), saved_, tensors.weight);
    } else {
      layer_.forward(x, tensors.y.view(), saved_, tensors.weight);
    }
  }

  void backward(Tensors& tensors) {
    const TensorView dy = one_.memory == Memory::apart ? tensors.dy.view() : tensors.dx.view();
    if (one_.memory == Memory::recovered) {
      layer_.backward_in_place(saved_, tensors.y.view(), dy, tensors.dx.view(), tensors.weight);
    } else if (one_.residual) {
      layer_.backward(saved_, tensors.x.view(), tensors.y.view(), dy, tensors.dx.view(),
                      tensors.dresidual.view(), tensors.weight);
    } else {
      layer_.backward(saved_, tensors.x.view(), dy, tensors.dx.view(), tensors.weight);
    }
  }

  Case one_;
  Shard shard_;
  BatchNorm layer_;
  Saved saved_;
};

}  // namespace

BatchNormOptions options_of(const Case& one) {
  return {.name = "check",
          .eps = eps,
          .momentum = momentum,
          .activation = one.activation,
          .parameter_gradients = one.scope,
          .channel_blocks = one.channel_blocks,
          .reproducibility = one.reproducibility};
}

LayerMaker layers_on_host(const Communicator& world) {
  return [world](const Case& one, const Parameters& parameters, const Shard& shard,
                 Ranks ranks) -> std::unique_ptr<Layer> {
    return std::make_unique<HostLayer>(one, parameters, shard,
                                       ranks == Ranks::all ? world : Communicator::self());
  };
}

}  // namespace syncbn::app::check
