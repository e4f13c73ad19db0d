// SPDX-License-Identifier: Apache-2.0
#include "trainer/networks.hpp"

#include <cmath>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "trainer/layers.hpp"

namespace syncbn::trainer {
namespace {

/// Adds layer to layer and keeps count of the shape between them.
class Builder {
 public:
  Builder(const TrainOptions& options, dnn::Image input, Communicator group)
      : options_(options), shape_(input), group_(std::move(group)) {}

  void convolution(std::int64_t filters) {
    const Initialization initial = initialization(9 * shape_.channels, hidden_gain());
    ++convolutions_;
    add(convolution_layer(fmt::format("conv{}", convolutions_), shape_, filters, hidden_bias(),
                          initial));
    shape_.channels = filters;
  }

  void hidden_dense(std::int64_t outputs) {
    dense(outputs, hidden_bias(), initialization(shape_.size(), hidden_gain()));
  }

  /// Adds the last layer. Its weights are small at first: the classes begin about equally likely,
  /// and the first gradients gentle.
  void output_dense(std::int64_t outputs) {
    Initialization small = initialization(shape_.size(), 0.01);
    if (options_.scaled_weights == ScaledWeights::hidden) {
      small.deviation /= options_.init_scale;
    }
    dense(outputs, dnn::Bias::with, small);
  }

  /// Adds batch norm, or what stands in its place, and the activation, fused where batch norm can.
  void activation() {
    const dnn::Function function = options_.chosen_activation();
    const bool norm = options_.norm == Norm::local || options_.norm == Norm::sync;
    const bool fused = norm && function == dnn::Function::relu;
    const std::string name = fmt::format("bn{}", ++norms_);
    const std::int64_t pixels = shape_.height * shape_.width;
    if (norm) {
      add(batch_norm_layer(name, pixels, shape_.channels,
                           fused ? Activation::relu : Activation::none, group_));
    } else if (options_.norm == Norm::affine) {
      add(affine_layer(name, pixels, shape_.channels));
    }
    if (!fused) {
      add(activation_layer(function, shape_.size()));
    }
  }

  void average_pool() {
    add(average_pool_layer(shape_));
    shape_.height /= 2;
    shape_.width /= 2;
  }

  void dropout() {
    if (options_.dropout > 0) {
      ++dropouts_;
      add(dropout_layer(options_.dropout, shape_.size(), options_.seed, dropouts_));
    }
  }

  Model build() { return Model(std::move(layers_)); }

 private:
  void add(std::unique_ptr<Layer> layer) { layers_.push_back(std::move(layer)); }

  void dense(std::int64_t outputs, dnn::Bias bias, const Initialization& initial) {
    ++denses_;
    add(dense_layer(fmt::format("dense{}", denses_), shape_.size(), outputs, bias, initial));
    shape_ = {1, 1, outputs};
  }

  /// Leaves out the bias in front of batch norm, which would subtract it again with the mean, and
  /// of a learned shift, which is one already.
  dnn::Bias hidden_bias() const {
    return options_.norm == Norm::none ? dnn::Bias::with : dnn::Bias::without;
  }

  /// Returns 2 for relu, which loses half of the variance (He et al., 2015).
  double hidden_gain() const { return options_.chosen_activation() == dnn::Function::relu ? 2 : 1; }

  /// Returns how the weights of the next layer are drawn: the same ones whatever the norm.
  Initialization initialization(std::int64_t inputs, double gain) const {
    const std::uint64_t nth = convolutions_ + denses_ + 1;
    return {Random{static_cast<std::uint64_t>(Draw::weights), options_.seed, nth},
            options_.init_scale * std::sqrt(gain / static_cast<double>(inputs))};
  }

  const TrainOptions& options_;
  dnn::Image shape_;
  Communicator group_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::uint64_t convolutions_ = 0, denses_ = 0, norms_ = 0, dropouts_ = 0;
};

void build_mlp(Builder& builder, std::int64_t hidden_layers) {
  for (std::int64_t hidden = 0; hidden < hidden_layers; ++hidden) {
    builder.hidden_dense(100);
    builder.activation();
    builder.dropout();
  }
}

/// Pools by the mean: where neighbours are equal up to rounding, as in a background, which of them
/// is largest would depend on how the batch is spread over the ranks.
void build_cnn(Builder& builder) {
  for (const std::int64_t filters : {16, 32, 64}) {
    builder.convolution(filters);
    builder.activation();
    builder.average_pool();
  }
  builder.dropout();
}

}  // namespace

Model build_network(const TrainOptions& options, dnn::Image input, std::int64_t classes,
                    const Communicator& group) {
  constexpr std::int64_t smallest = 8;  // three halvings
  if (options.network == Network::cnn && (input.height < smallest || input.width < smallest)) {
    throw InvalidArgument(
        fmt::format("images of {}x{} are too small for the cnn ({}x{} at least). "
                    "Use --model mlp?",
                    input.height, input.width, smallest, smallest));
  }
  Builder builder(options, input, group);
  if (options.network == Network::mlp) {
    build_mlp(builder, options.hidden_layers);
  } else {
    build_cnn(builder);
  }
  builder.output_dense(classes);
  return builder.build();
}

}  // namespace syncbn::trainer
