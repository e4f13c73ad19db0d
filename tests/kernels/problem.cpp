// SPDX-License-Identifier: Apache-2.0
#include "kernels/problem.hpp"

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
    slope.push_back((0.2 - 0.05 * varied) / x_spread);
  }
}

kernels::Upstream Problem::upstream(bool relu, bool from_y) const {
  return {x.view(),    dy.view().data(), from_y ? y.view().data() : nullptr,
          mean.data(), scale.data(),     shift.data(),
          relu};
}

Sums forward_sums(const kernels::Kernels& kernels, const Problem& problem) {
  const auto channels = static_cast<std::size_t>(problem.x.shape().c);
  Sums sums{std::vector<double>(channels, -1), std::vector<double>(channels, -1)};
  kernels.forward_sums(
      {problem.x.view(), problem.pivot.data(), sums.first.data(), sums.second.data()});
  return sums;
}

Sums backward_sums(const kernels::Kernels& kernels, const Problem& problem, bool relu,
                   bool from_y) {
  const auto channels = static_cast<std::size_t>(problem.x.shape().c);
  Sums sums{std::vector<double>(channels, -1), std::vector<double>(channels, -1)};
  kernels.backward_sums({problem.upstream(relu, from_y), sums.first.data(), sums.second.data()});
  return sums;
}

Tensor normalize(const kernels::Kernels& kernels, const Problem& problem, bool relu,
                 bool with_residual) {
  Tensor y = problem.like_x();
  kernels.normalize({problem.x.view(), problem.mean.data(), problem.scale.data(),
                     problem.shift.data(), with_residual ? problem.residual.view().data() : nullptr,
                     relu, y.view().data()});
  return y;
}

Gradients input_gradient(const kernels::Kernels& kernels, const Problem& problem, bool relu,
                         bool from_y, bool with_residual) {
  Gradients out{problem.like_x(), problem.like_x()};
  kernels.input_gradient({problem.upstream(relu, from_y), problem.mean_dz.data(),
                          problem.slope.data(), out.dx.view().data(),
                          with_residual ? out.dresidual.view().data() : nullptr});
  return out;
}

const std::vector<Shape>& awkward_shapes() {
  static const std::vector<Shape> shapes = {
      {0, 3, 5},    {2, 3, 0},   {0, 1, 1},    {1, 1, 1},   {1, 5, 1},    {3, 1, 7},
      {2, 1, 70},   {5, 7, 1},   {67, 3, 1},   {9, 2, 2},   {3, 31, 4},   {2, 13, 49},
      {2, 2048, 1}, {1, 127, 7}, {2, 3, 15},   {2, 3, 16},  {2, 3, 17},   {2, 5, 31},
      {2, 5, 32},   {2, 5, 33},  {3, 15, 2},   {3, 16, 2},  {3, 17, 2},   {2, 4, 63},
      {2, 4, 64},   {2, 4, 65},  {17, 511, 1}, {6, 513, 1}, {40, 33, 67}, {300, 97, 5},
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
