// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "syncbn/tensor_view.hpp"

#include "kernels/kernels.hpp"
#include "support/tensor.hpp"

namespace syncbn::test {

/// Tensors and per-channel numbers for any kernel.
struct Problem {
  Tensor x, residual, dy;
  Tensor y;  ///< for masks: positive, negative, 0 and -0
  std::vector<double> pivot;
  std::vector<double> mean, scale, shift, mean_dz, grad_slope;
  std::vector<float> weight;  ///< [N, S], or empty for none
  double relu_slope = 0;      ///< what `relu` below does on the lower side
  bool stream = false;        ///< past the cache
  std::int64_t ranges = 1;    ///< of channels, done one after the other

  Problem(DType dtype, Shape shape, Layout layout, double x_mean = 0.5, double x_spread = 2);

  /// dz from dy, with the mask taken from y or from x.
  kernels::Upstream upstream(bool relu, bool from_y) const;
  kernels::ChannelRange channels() const { return {0, x.shape().c}; }
  const float* weights() const { return weight.empty() ? nullptr : weight.data(); }
  double weight_at(std::int64_t n, std::int64_t s) const;
  /// 0, 1, 0.5, 3, 0 ... x and dy are NaN where it is 0.
  void set_weights();
  Tensor like_x() const { return {x.dtype(), x.shape(), x.layout()}; }
};

/// Two numbers per channel.
struct Sums {
  std::vector<double> first, second;
};
Sums forward_sums(const kernels::Kernels& kernels, const Problem& problem);
Sums backward_sums(const kernels::Kernels& kernels, const Problem& problem, bool relu, bool from_y);
Tensor normalize(const kernels::Kernels& kernels, const Problem& problem, bool relu,
                 bool with_residual);
struct Gradients {
  Tensor dx, dresidual;
};
Gradients input_gradient(const kernels::Kernels& kernels, const Problem& problem, bool relu,
                         bool from_y, bool with_residual);

/// From y, the forward's output, instead of from x.
Sums backward_sums_from_output(const kernels::Kernels& kernels, const Problem& problem,
                               const Tensor& y);
Tensor input_gradient_from_output(const kernels::Kernels& kernels, const Problem& problem,
                                  const Tensor& y);

/// Shapes at the edges of what the kernels distinguish: no element, one, one channel, prime and
/// many channels, planes of one, vectors' lengths give or take one, more than one block.
const std::vector<Shape>& awkward_shapes();

std::string to_text(const Shape& shape);

/// Calls body(n, c, s) for every element.
void for_each(const Shape& shape,
              const std::function<void(std::int64_t n, std::int64_t c, std::int64_t s)>& body);

/// Runs `body` once for every vector instruction set that the machine has and the kernels know.
void on_every_target(const std::function<void()>& body);

/// For a value-parameterized test over these.
using TypeAndLayout = std::tuple<DType, Layout>;
std::vector<TypeAndLayout> types_and_layouts();
std::string name_of(const TypeAndLayout& parameter);

/// Unit round-off of the type, half of its epsilon.
double unit(DType dtype);
/// Unit round-off of what the kernels compute with for it: float, for f64 double.
double unit_of_arithmetic(DType dtype);
/// Distance between the smallest numbers of the type.
double smallest(DType dtype);

}  // namespace syncbn::test
