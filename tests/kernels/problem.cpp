// SPDX-License-Identifier: Apache-2.0
#include "kernels/problem.hpp"

#include <cstddef>
#include <limits>

#include <gtest/gtest.h>

#include "syncbn/backend.hpp"

#include "kernels/cpu/targets.hpp"

namespace syncbn::test {

Problem::Problem(DType dtype, Shape shape, Layout layout, double x_mean, double x_spread)
    : x(Tensor::normal(dtype, shape, layout, 1, x_mean, x_spread)),
      residual(Tensor::normal(dtype, shape, layout, 2)),
      dy(Tensor::normal(dtype, shape, layout, 3, 0.25)),
      y(Tensor::normal(dtype, shape, layout, 4)) {
  for_each(shape, [&](std::int64_t n, std::int64_t c, std::int64_t s) {
    if ((n + c + s) % 5 == 0) {
      y.set(n, c, s, s % 2 == 0 ? 0.0 : -0.0);
    }
  });
  for (std::int64_t c = 0; c < shape.c; ++c) {
    const auto varied = static_cast<double>(c % 7);
    const double gamma = (c % 5 == 4 ? -1 : 1) * (0.6 + 0.1 * varied);
    pivot.push_back(static_cast<float>(x_mean + 0.3 * varied));
    mean.push_back(x_mean + 0.01 * varied * x_spread);
    scale.push_back(gamma / x_spread);
    shift.push_back(0.1 * (varied - 3));
    mean_dz.push_back(0.25 - 0.01 * varied);
    grad_slope.push_back((0.2 - 0.05 * varied) / x_spread);
  }
}

kernels::Upstream Problem::upstream(bool relu, bool from_y) const {
  return {.data = x.view(),
          .source = kernels::Source::input,
          .weight = weights(),
          .dy = dy.view().data(),
          .y = from_y ? y.view().data() : nullptr,
          .mean = mean.data(),
          .scale = scale.data(),
          .shift = shift.data(),
          .negative_slope = relu ? relu_slope : 1.0};
}

double Problem::weight_at(std::int64_t n, std::int64_t s) const {
  return weight.empty()
             ? 1
             : static_cast<double>(weight[static_cast<std::size_t>(n * x.shape().s + s)]);
}

void Problem::set_weights() {
  constexpr float values[] = {0, 1, 0.5F, 3};
  const Shape& shape = x.shape();
  weight.resize(static_cast<std::size_t>(shape.per_channel()));
  for (std::size_t i = 0; i < weight.size(); ++i) {
    weight[i] = values[i * 7 / 5 % 4];
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for_each(shape, [&](std::int64_t n, std::int64_t c, std::int64_t s) {
    if (weight_at(n, s) == 0) {
      x.set(n, c, s, nan);
      dy.set(n, c, s, nan);
    }
  });
}

namespace {

// Calls body(channels, run) for the problem's ranges.
template <class Body>
void for_ranges(const Problem& problem, Body body) {
  kernels::Scratch scratch;
  const std::int64_t channels = problem.x.shape().c;
  for (std::int64_t k = 0; k < problem.ranges; ++k) {
    const kernels::ChannelRange range{channels * k / problem.ranges,
                                      channels * (k + 1) / problem.ranges};
    if (range.size() > 0) {
      body(range, kernels::Run{.scratch = scratch, .stream = problem.stream});
    }
  }
}

/// Returns what a kernel leaves in the sums that fill(sums) gives it.
template <class Fill>
Sums sums_of(const Problem& problem, Fill fill) {
  const std::int64_t channels = problem.x.shape().c;
  std::vector<double> sums(static_cast<std::size_t>(2 * channels + 1), -1);
  fill(sums.data());
  const auto second = sums.begin() + channels;
  return {{sums.begin(), second}, {second, second + channels}};
}

Sums backward_sums(const kernels::Kernels& kernels, const Problem& problem,
                   const kernels::Upstream& upstream) {
  return sums_of(problem, [&](double* sums) {
    for_ranges(problem, [&](const auto& channels, const auto& run) {
      kernels.backward_sums({upstream, sums}, channels, run);
    });
  });
}

Gradients input_gradient(const kernels::Kernels& kernels, const Problem& problem,
                         const kernels::Upstream& upstream, bool with_residual) {
  Gradients out{problem.like_x(), problem.like_x()};
  for_ranges(problem, [&](const auto& channels, const auto& run) {
    kernels.input_gradient(
        {upstream, problem.mean_dz.data(), problem.grad_slope.data(), out.dx.view().data(),
         with_residual ? out.dresidual.view().data() : nullptr},
        channels, run);
  });
  return out;
}

kernels::Upstream from_output(const Problem& problem, const Tensor& y) {
  kernels::Upstream upstream = problem.upstream(true, false);
  upstream.data = y.view();
  upstream.source = kernels::Source::output;
  return upstream;
}

}  // namespace

Sums forward_sums(const kernels::Kernels& kernels, const Problem& problem) {
  return sums_of(problem, [&](double* sums) {
    for_ranges(problem, [&](const auto& channels, const auto& run) {
      kernels.forward_sums({.x = problem.x.view(),
                            .weight = problem.weights(),
                            .pivot = problem.pivot.data(),
                            .sums = sums},
                           channels, run);
    });
  });
}

Sums backward_sums(const kernels::Kernels& kernels, const Problem& problem, bool relu,
                   bool from_y) {
  return backward_sums(kernels, problem, problem.upstream(relu, from_y));
}

Tensor normalize(const kernels::Kernels& kernels, const Problem& problem, bool relu,
                 bool with_residual) {
  Tensor y = problem.like_x();
  for_ranges(problem, [&](const auto& channels, const auto& run) {
    kernels.normalize({.x = problem.x.view(),
                       .weight = problem.weights(),
                       .mean = problem.mean.data(),
                       .scale = problem.scale.data(),
                       .shift = problem.shift.data(),
                       .residual = with_residual ? problem.residual.view().data() : nullptr,
                       .negative_slope = relu ? problem.relu_slope : 1.0,
                       .y = y.view().data()},
                      channels, run);
  });
  return y;
}

Gradients input_gradient(const kernels::Kernels& kernels, const Problem& problem, bool relu,
                         bool from_y, bool with_residual) {
  return input_gradient(kernels, problem, problem.upstream(relu, from_y), with_residual);
}

Sums backward_sums_from_output(const kernels::Kernels& kernels, const Problem& problem,
                               const Tensor& y) {
  return backward_sums(kernels, problem, from_output(problem, y));
}

Tensor input_gradient_from_output(const kernels::Kernels& kernels, const Problem& problem,
                                  const Tensor& y) {
  return input_gradient(kernels, problem, from_output(problem, y), false).dx;
}

const std::vector<Shape>& awkward_shapes() {
  static const std::vector<Shape> shapes = {
      {0, 3, 5},    {2, 3, 0},    {0, 1, 1},    {1, 1, 1},   {1, 5, 1},    {3, 1, 7},
      {2, 1, 70},   {5, 7, 1},    {67, 3, 1},   {9, 2, 2},   {3, 31, 4},   {2, 13, 49},
      {2, 2048, 1}, {1, 127, 7},  {2, 3, 15},   {2, 3, 16},  {2, 3, 17},   {2, 5, 31},
      {2, 5, 32},   {2, 5, 33},   {3, 15, 2},   {3, 16, 2},  {3, 17, 2},   {2, 4, 63},
      {2, 4, 64},   {2, 4, 65},   {17, 511, 1}, {6, 513, 1}, {40, 33, 67}, {300, 97, 5},
      {3, 70, 49},  {2, 37, 196}, {2, 3, 1568},
  };
  return shapes;
}

std::string to_text(const Shape& shape) {
  return std::to_string(shape.n) + "x" + std::to_string(shape.c) + "x" + std::to_string(shape.s);
}

void for_each(const Shape& shape,
              const std::function<void(std::int64_t n, std::int64_t c, std::int64_t s)>& body) {
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t c = 0; c < shape.c; ++c) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        body(n, c, s);
      }
    }
  }
}

void on_every_target(const std::function<void()>& body) {
  const auto choose = [](std::int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  };
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    choose(target);
    SCOPED_TRACE(hwy::TargetName(target));
    EXPECT_EQ(instruction_set(), hwy::TargetName(target));
    body();
    choose(0);
  }
}

std::vector<TypeAndLayout> types_and_layouts() {
  std::vector<TypeAndLayout> all;
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      all.emplace_back(dtype, layout);
    }
  }
  return all;
}

std::string name_of(const TypeAndLayout& parameter) {
  return std::string(to_string(std::get<DType>(parameter))) + "_" +
         std::string(to_string(std::get<Layout>(parameter)));
}

double unit(DType dtype) {
  return epsilon(dtype) / 2;
}

double unit_of_arithmetic(DType dtype) {
  return dtype == DType::f64 ? unit(DType::f64) : unit(DType::f32);
}

double smallest(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 0x1p-1074;
    case DType::f32:
      return 0x1p-149;
    case DType::f16:
      return 0x1p-24;
    case DType::bf16:
      return 0x1p-133;
  }
  return 0;
}

}  // namespace syncbn::test
