// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "syncbn/communicator.hpp"
#include "syncbn/phases.hpp"

#include "trainer/dnn.hpp"
#include "trainer/layer.hpp"
#include "trainer/random.hpp"

namespace syncbn::trainer {

/// Says how weights are drawn: from a normal distribution of this standard deviation. Biases start
/// at 0.
struct Initialization {
  Random random;
  double deviation;
};

std::unique_ptr<Layer> dense_layer(const std::string& name, std::int64_t inputs,
                                   std::int64_t outputs, dnn::Bias bias,
                                   const Initialization& initialization);

/// Makes a convolution with 3x3 filters, whose output is as large as its input.
std::unique_ptr<Layer> convolution_layer(const std::string& name, dnn::Image input,
                                         std::int64_t filters, dnn::Bias bias,
                                         const Initialization& initialization);

/// Makes batch norm of [samples, pixels, channels]; `pixels` is 1 behind a dense layer.
std::unique_ptr<Layer> batch_norm_layer(const std::string& name, std::int64_t pixels,
                                        std::int64_t channels, syncbn::Activation activation,
                                        const Communicator& group);

/// Makes a layer of the same tensors and parameters that normalizes nothing: y = weight x + bias
/// per channel.
std::unique_ptr<Layer> affine_layer(const std::string& name, std::int64_t pixels,
                                    std::int64_t channels);

std::unique_ptr<Layer> activation_layer(dnn::Function function, std::int64_t width);

std::unique_ptr<Layer> average_pool_layer(dnn::Image input);

/// Makes a layer that sets each element to 0 with the given probability and scales the others to
/// keep the mean. `layer` tells its draws from those of the other layers.
std::unique_ptr<Layer> dropout_layer(double probability, std::int64_t width, std::uint64_t seed,
                                     std::uint64_t layer);

}  // namespace syncbn::trainer
