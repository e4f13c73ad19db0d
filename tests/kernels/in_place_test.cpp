// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "kernels/problem.hpp"

namespace syncbn::test {
namespace {

const kernels::Kernels& cpu = kernels::select(Backend::cpu);
const kernels::Kernels& reference = kernels::select(Backend::reference);
kernels::Scratch scratch;

constexpr Shape shapes[] = {{3, 5, 77}, {3, 19, 49}, {2, 3, 1030}, {3, 19, 1}, {70, 3, 2}};

class InPlaceTest : public testing::TestWithParam<TypeAndLayout> {
 protected:
  // With every backend and target, through the cache and past it, with weights and without, on
  // problems of several shapes.
  template <class Body>
  void on_all(Body body) {
    for (const Shape& shape : shapes) {
      SCOPED_TRACE(to_text(shape));
      Problem of(std::get<DType>(GetParam()), shape, std::get<Layout>(GetParam()));
      for (const bool weighted : {false, true}) {
        if (weighted) {
          of.set_weights();
        }
        for (const bool stream : {false, true}) {
          SCOPED_TRACE(testing::Message() << "weighted " << weighted << ", stream " << stream);
          of.stream = stream;
          body(reference, of);
          on_every_target([&] { body(cpu, of); });
        }
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(, InPlaceTest, testing::ValuesIn(types_and_layouts()),
                         [](const auto& of) { return name_of(of.param); });

void expect_equal(const Tensor& got, const Tensor& expected) {
  for_each(got.shape(), [&](auto n, auto c, auto s) {
    ASSERT_EQ(got.at(n, c, s), expected.at(n, c, s)) << "at " << n << ", " << c << ", " << s;
  });
}

kernels::Run run_of(const Problem& of) {
  return {.scratch = scratch, .stream = of.stream};
}

kernels::Normalize normalize_into(const Problem& of, Tensor& y, const Tensor& x,
                                  const Tensor* residual) {
  return {.x = x.view(),
          .weight = of.weights(),
          .mean = of.mean.data(),
          .scale = of.scale.data(),
          .shift = of.shift.data(),
          .residual = residual == nullptr ? nullptr : residual->view().data(),
          .negative_slope = 0,
          .y = y.view().data()};
}

TEST_P(InPlaceTest, OutputOverInput) {
  on_all([](const kernels::Kernels& kernels, const Problem& of) {
    Tensor y = of.x;
    kernels.normalize(normalize_into(of, y, y, nullptr), of.channels(), run_of(of));
    expect_equal(y, normalize(kernels, of, true, false));
    y = of.x;
    kernels.normalize(normalize_into(of, y, y, &of.residual), of.channels(), run_of(of));
    expect_equal(y, normalize(kernels, of, true, true));
  });
}

TEST_P(InPlaceTest, OutputOverResidual) {
  on_all([](const kernels::Kernels& kernels, const Problem& of) {
    Tensor y = of.residual;
    kernels.normalize(normalize_into(of, y, of.x, &y), of.channels(), run_of(of));
    expect_equal(y, normalize(kernels, of, true, true));
  });
}

TEST_P(InPlaceTest, GradientsOverTheIncomingOne) {
  on_all([](const kernels::Kernels& kernels, const Problem& of) {
    const Gradients expected = input_gradient(kernels, of, true, true, true);
    for (const bool dx_is_dy : {true, false}) {
      Tensor dy = of.dy;
      Tensor other = of.like_x();
      kernels::Upstream upstream = of.upstream(true, true);
      upstream.dy = dy.view().data();
      Tensor& dx = dx_is_dy ? dy : other;
      Tensor& dresidual = dx_is_dy ? other : dy;
      kernels.input_gradient({upstream, of.mean_dz.data(), of.grad_slope.data(), dx.view().data(),
                              dresidual.view().data()},
                             of.channels(), run_of(of));
      expect_equal(dx, expected.dx);
      expect_equal(dresidual, expected.dresidual);
    }
  });
}

}  // namespace
}  // namespace syncbn::test
