// SPDX-License-Identifier: Apache-2.0
//
// x = W u, y = BN(x), with the gradients du = W^T dx and dW = dx^T u (Ioffe & Szegedy 2015, section
// 3.3). For aW in place of W: y and du are the same, dW is 1/a of it.
//
// What rounding explains: a product of K terms is off by at most K times the unit roundoff r times
// the sum of the terms' absolute values, and rounding aW adds r to each term. So x, in standard
// deviations of its channel, is off by at most e = (K + 1) r max(sum |w u|) / sigma. Mean and
// standard deviation are off by no more than x. Let Y be the largest |y|. Then y is off by
//
//   d = (2 + Y) e + 4 r Y
//
// and dx = (dy - mean(dy) - y mean(dy y)) / sigma, relative to max|dy| / sigma, by at most
//
//   g = d (2 + 2 Y + Y^2) + 4 r (2 + Y^2)
//
// of which the sums in du and dW make g sum|W| and g sum|u|, with K r times their terms more. Both
// sides of the identity are computed, so each tolerance is twice that.
#include "app/study/scale_identity.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "syncbn/batch_norm.hpp"

#include "trainer/random.hpp"

namespace syncbn::app::study {
namespace {

constexpr std::int64_t samples = 60, inputs = 784, outputs = 100;  // the first layer's, as trained
constexpr double roundoff = std::numeric_limits<double>::epsilon() / 2;

/// A Matrix is stored row by row.
struct Matrix {
  std::int64_t rows, columns;
  std::vector<double> values;

  Matrix(std::int64_t height, std::int64_t width)
      : rows(height), columns(width), values(static_cast<std::size_t>(height * width)) {}
  double& at(std::int64_t row, std::int64_t column) {
    return values[static_cast<std::size_t>(row * columns + column)];
  }
  double at(std::int64_t row, std::int64_t column) const {
    return values[static_cast<std::size_t>(row * columns + column)];
  }
};

Matrix random_matrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed,
                     std::uint64_t which) {
  Matrix matrix(rows, columns);
  const trainer::Random random{seed, which};
  for (std::size_t i = 0; i < matrix.values.size(); ++i) {
    matrix.values[i] = random.normal(i);
  }
  return matrix;
}

Matrix transposed(const Matrix& a) {
  Matrix result(a.columns, a.rows);
  for (std::int64_t row = 0; row < a.rows; ++row) {
    for (std::int64_t column = 0; column < a.columns; ++column) {
      result.at(column, row) = a.at(row, column);
    }
  }
  return result;
}

/// Returns a b^T.
Matrix product(const Matrix& a, const Matrix& b) {
  Matrix result(a.rows, b.rows);
  for (std::int64_t row = 0; row < a.rows; ++row) {
    for (std::int64_t column = 0; column < b.rows; ++column) {
      double sum = 0;
      for (std::int64_t k = 0; k < a.columns; ++k) {
        sum += a.at(row, k) * b.at(column, k);
      }
      result.at(row, column) = sum;
    }
  }
  return result;
}

Matrix scaled(Matrix matrix, double scale) {
  for (double& value : matrix.values) {
    value *= scale;
  }
  return matrix;
}

Matrix absolute(Matrix matrix) {
  for (double& value : matrix.values) {
    value = std::abs(value);
  }
  return matrix;
}

double largest(const Matrix& matrix) {
  const Matrix magnitudes = absolute(matrix);
  return *std::ranges::max_element(magnitudes.values);
}

/// Returns the largest difference, relative to the largest element of `expected`; infinity if one
/// is no number.
double error(const Matrix& found, const Matrix& expected) {
  double most = 0;
  for (std::size_t i = 0; i < found.values.size(); ++i) {
    const double difference = std::abs(found.values[i] - expected.values[i]);
    most = std::isnan(difference) ? std::numeric_limits<double>::infinity()
                                  : std::max(most, difference);
  }
  return most / largest(expected);
}

/// The tensors of one problem.
struct Problem {
  Matrix u;   ///< [samples, inputs]
  Matrix w;   ///< [outputs, inputs]
  Matrix dy;  ///< [samples, outputs]

  explicit Problem(std::uint64_t seed)
      : u(random_matrix(samples, inputs, seed, 1)),
        w(random_matrix(outputs, inputs, seed, 2)),
        dy(random_matrix(samples, outputs, seed, 3)) {}
};

/// What a layer makes of a problem.
struct Passes {
  Matrix y{samples, outputs};
  Matrix du{samples, inputs};
  Matrix dw{outputs, inputs};
  Matrix dx{samples, outputs};
  double smallest_deviation = 0;  ///< standard deviation of x
};

ConstTensorView view(const Matrix& matrix) {
  return {matrix.values.data(), Shape{matrix.rows, matrix.columns, 1}, Layout::channels_last};
}

TensorView view(Matrix& matrix) {
  return {matrix.values.data(), Shape{matrix.rows, matrix.columns, 1}, Layout::channels_last};
}

Passes run(const Problem& problem, double scale, double eps) {
  const Matrix w = scaled(problem.w, scale);
  const Matrix x = product(problem.u, w);
  Passes passes;
  BatchNorm batch_norm(outputs, Communicator::self(), {.eps = eps});
  ForwardRecord record;
  batch_norm.forward(view(x), view(passes.y), record);
  batch_norm.backward(record, view(x), view(problem.dy), view(passes.dx));
  passes.du = product(passes.dx, transposed(w));
  passes.dw = product(transposed(passes.dx), transposed(problem.u));
  passes.smallest_deviation = std::sqrt(*std::ranges::min_element(record.var()));
  return passes;
}

/// Returns what rounding explains, relative to the largest element: see the top of this file.
ScaleErrors tolerances(const Problem& problem, const Passes& passes) {
  const Matrix w = absolute(problem.w), u = absolute(problem.u);
  const double sigma = passes.smallest_deviation;
  const double e = (inputs + 1) * roundoff * largest(product(u, w)) / sigma;
  const double y = largest(passes.y);
  const double d = (2 + y) * e + 4 * roundoff * y;
  const double g = d * (2 + 2 * y + y * y) + 4 * roundoff * (2 + y * y);
  const double dx_error = g * largest(problem.dy) / sigma;
  const double dx = largest(passes.dx);
  const auto column_sum = [](const Matrix& matrix) {
    double most = 0;
    for (std::int64_t column = 0; column < matrix.columns; ++column) {
      double sum = 0;
      for (std::int64_t row = 0; row < matrix.rows; ++row) {
        sum += matrix.at(row, column);
      }
      most = std::max(most, sum);
    }
    return most;
  };
  ScaleErrors result;
  result.output.tolerance = 2 * d / y;
  result.input_gradient.tolerance =
      2 * (dx_error + (outputs + 1) * roundoff * dx) * column_sum(w) / largest(passes.du);
  result.weight_gradient.tolerance =
      2 * (dx_error + (samples + 1) * roundoff * dx) * column_sum(u) / largest(passes.dw);
  return result;
}

}  // namespace

std::vector<ScaleErrors> scale_errors(std::uint64_t seed, std::span<const double> scales) {
  constexpr double usual_eps = 1e-5;
  const Problem problem(seed);
  const Passes expected = run(problem, 1, 0);
  const Passes expected_with_eps = run(problem, 1, usual_eps);
  std::vector<ScaleErrors> result;
  for (const double scale : scales) {
    const Passes found = run(problem, scale, 0);
    ScaleErrors errors = tolerances(problem, expected);
    errors.scale = scale;
    errors.output.error = error(found.y, expected.y);
    errors.input_gradient.error = error(found.du, expected.du);
    errors.weight_gradient.error = error(found.dw, scaled(expected.dw, 1 / scale));
    errors.output_with_eps = error(run(problem, scale, usual_eps).y, expected_with_eps.y);
    result.push_back(errors);
  }
  return result;
}

double worst_share_of_tolerance(const std::vector<ScaleErrors>& errors) {
  double worst = 0;
  for (const ScaleErrors& of_scale : errors) {
    for (const ScaleError& one :
         {of_scale.output, of_scale.input_gradient, of_scale.weight_gradient}) {
      const double share = one.error / one.tolerance;
      worst = std::isnan(share) ? std::numeric_limits<double>::infinity() : std::max(worst, share);
    }
  }
  return worst;
}

}  // namespace syncbn::app::study
