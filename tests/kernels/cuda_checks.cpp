// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda_checks.hpp"

#include <cmath>
#include <utility>

#include <gtest/gtest.h>

#include "kernels/tolerance.hpp"

namespace syncbn::test {
namespace {

const kernels::Kernels& reference = kernels::select(Backend::reference);

// Planes of 256 elements, of vectors or not, of more vectors than a block has threads; tiles with
// fewer, as many and more columns than 64 vectors, with a tile left over, and with more strands of
// columns than threads (24x17 of 16 bits: 384); rows for several blocks.
constexpr Shape shapes[] = {{2, 3, 255},  {2, 3, 256},   {5, 2, 257},  {3, 2, 4099}, {40, 1, 225},
                            {3, 600, 2},  {4, 24, 17},   {9, 17, 49},  {2, 1030, 1}, {700, 24, 1},
                            {3, 41, 196}, {2, 1, 20000}, {50, 2, 783}, {3000, 3, 1}};

struct Way {
  bool relu;
  bool from_y;
};
constexpr Way ways[] = {{false, false}, {true, false}, {true, true}};

// Terms are rounded 11 times until they are added to doubles, two times more where dy was scaled.
double float_roundings(DType dtype) {
  return dtype == DType::f64 ? 0 : 13;
}

bool same(double a, double b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

void expect_same(const Sums& a, const Sums& b) {
  for (std::size_t c = 0; c < a.first.size(); ++c) {
    ASSERT_TRUE(same(a.first[c], b.first[c])) << "channel " << c;
    ASSERT_TRUE(same(a.second[c], b.second[c])) << "channel " << c;
  }
}

void expect_same(const Tensor& a, const Tensor& b) {
  for_each(a.shape(), [&](auto n, auto c, auto s) {
    if (!same(a.at(n, c, s), b.at(n, c, s))) {
      ADD_FAILURE() << a.at(n, c, s) << " and " << b.at(n, c, s) << " at " << n << ", " << c << ", "
                    << s;
    }
  });
}

}  // namespace

void on_cuda_problems(const TypeAndLayout& of, const OnProblem& body) {
  std::vector<Shape> all = awkward_shapes();
  all.insert(all.end(), std::begin(shapes), std::end(shapes));
  for (const Shape& shape : all) {
    Problem problem(std::get<DType>(of), shape, std::get<Layout>(of));
    for (const bool weighted : {false, true}) {
      if (weighted) {
        problem.set_weights();
        problem.relu_slope = 0.3;
      }
      SCOPED_TRACE(to_text(shape) + (weighted ? ", weighted" : ""));
      body(problem);
    }
  }
}

void expect_right_sums(const kernels::Kernels& kernels, const Problem& problem) {
  const double roundings = float_roundings(problem.x.dtype());
  expect_near(forward_sums(kernels, problem), forward_sums(reference, problem),
              forward_tolerance(problem, roundings));
  for (const auto& [relu, from_y] : ways) {
    expect_near(backward_sums(kernels, problem, relu, from_y),
                backward_sums(reference, problem, relu, from_y),
                backward_tolerance(problem, relu, from_y, roundings));
  }
}

void expect_right_elements(const kernels::Kernels& kernels, const Problem& problem) {
  for (const bool relu : {false, true}) {
    for (const bool residual : {false, true}) {
      expect_near(problem, normalize(kernels, problem, relu, residual),
                  normalize(reference, problem, relu, residual), residual);
    }
  }
  for (const auto& [relu, from_y] : ways) {
    for (const bool residual : {false, true}) {
      expect_near(problem, input_gradient(kernels, problem, relu, from_y, residual),
                  input_gradient(reference, problem, relu, from_y, residual), relu && !from_y,
                  residual);
    }
  }
}

void expect_same_results(const kernels::Kernels& a, const kernels::Kernels& b,
                         const Problem& problem) {
  expect_same(forward_sums(a, problem), forward_sums(b, problem));
  const Tensor y = normalize(a, problem, true, true);
  expect_same(y, normalize(b, problem, true, true));
  for (const auto& [relu, from_y] : ways) {
    expect_same(backward_sums(a, problem, relu, from_y), backward_sums(b, problem, relu, from_y));
    const Gradients got = input_gradient(a, problem, relu, from_y, true);
    const Gradients expected = input_gradient(b, problem, relu, from_y, true);
    expect_same(got.dx, expected.dx);
    expect_same(got.dresidual, expected.dresidual);
  }
  if (problem.relu_slope != 0) {
    expect_same(backward_sums_from_output(a, problem, y), backward_sums_from_output(b, problem, y));
    expect_same(input_gradient_from_output(a, problem, y),
                input_gradient_from_output(b, problem, y));
  }
}

}  // namespace syncbn::test
