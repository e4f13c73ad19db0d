// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include "support/tensor.hpp"

namespace syncbn::test {

/// Batch norm of one process that holds the whole batch, from the definition: two passes, in long
/// double. Shares nothing with the library.
struct WholeBatch {
  using Real = long double;

  const Tensor& x;
  std::vector<double> gamma, beta;
  double eps = 1e-5;

  std::vector<Real> mean, var;  ///< [C], biased

  WholeBatch(const Tensor& batch, std::vector<double> gamma_in, std::vector<double> beta_in,
             double eps_in);

  Real invstd(std::int64_t c) const;
  Real x_hat(std::int64_t n, std::int64_t c, std::int64_t s) const;
  /// gamma * x_hat + beta
  Real z(std::int64_t n, std::int64_t c, std::int64_t s) const;

  struct Gradients {
    std::vector<Real> gamma, beta;  ///< [C] of the whole batch
    std::vector<Real> dx;           ///< in (n, c, s) order
    Real dx_at(const Shape& shape, std::int64_t n, std::int64_t c, std::int64_t s) const;
  };
  /// For an upstream gradient dy, cut to 0 where `passed` (the activation's output), if given, is
  /// 0.
  Gradients backward(const Tensor& dy, const Tensor* passed = nullptr) const;
};

}  // namespace syncbn::test
