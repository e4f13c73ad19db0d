// SPDX-License-Identifier: Apache-2.0
#include "support/whole_batch.hpp"

#include <cmath>

namespace syncbn::test {
namespace {

template <class Body>
void each_of_channel(const Shape& shape, Body&& body) {
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t s = 0; s < shape.s; ++s) {
      body(n, s);
    }
  }
}

}  // namespace

WholeBatch::WholeBatch(const Tensor& batch, std::vector<double> gamma_in,
                       std::vector<double> beta_in, double eps_in)
    : x(batch), gamma(std::move(gamma_in)), beta(std::move(beta_in)), eps(eps_in) {
  const Shape& shape = x.shape();
  const Real count = static_cast<Real>(shape.per_channel());
  for (std::int64_t c = 0; c < shape.c; ++c) {
    Real sum = 0;
    each_of_channel(shape, [&](auto n, auto s) { sum += x.at(n, c, s); });
    mean.push_back(sum / count);
    Real squares = 0;
    each_of_channel(shape, [&](auto n, auto s) {
      const Real d = x.at(n, c, s) - mean.back();
      squares += d * d;
    });
    var.push_back(squares / count);
  }
}

WholeBatch::Real WholeBatch::invstd(std::int64_t c) const {
  return 1 / std::sqrt(var[static_cast<std::size_t>(c)] + static_cast<Real>(eps));
}

WholeBatch::Real WholeBatch::x_hat(std::int64_t n, std::int64_t c, std::int64_t s) const {
  return (x.at(n, c, s) - mean[static_cast<std::size_t>(c)]) * invstd(c);
}

WholeBatch::Real WholeBatch::z(std::int64_t n, std::int64_t c, std::int64_t s) const {
  const auto channel = static_cast<std::size_t>(c);
  return gamma[channel] * x_hat(n, c, s) + beta[channel];
}

WholeBatch::Real WholeBatch::Gradients::dx_at(const Shape& shape, std::int64_t n, std::int64_t c,
                                              std::int64_t s) const {
  return dx[static_cast<std::size_t>((n * shape.c + c) * shape.s + s)];
}

WholeBatch::Gradients WholeBatch::backward(const Tensor& dy, const Tensor* passed) const {
  const Shape& shape = x.shape();
  const Real count = static_cast<Real>(shape.per_channel());
  Gradients result;
  result.dx.resize(static_cast<std::size_t>(shape.size()));
  const auto dz = [&](std::int64_t n, std::int64_t c, std::int64_t s) -> Real {
    return passed != nullptr && passed->at(n, c, s) <= 0 ? 0 : dy.at(n, c, s);
  };
  for (std::int64_t c = 0; c < shape.c; ++c) {
    Real sum = 0;
    Real product = 0;
    each_of_channel(shape, [&](auto n, auto s) {
      sum += dz(n, c, s);
      product += dz(n, c, s) * x_hat(n, c, s);
    });
    result.beta.push_back(sum);
    result.gamma.push_back(product);
    const Real scale = gamma[static_cast<std::size_t>(c)] * invstd(c);
    each_of_channel(shape, [&](auto n, auto s) {
      result.dx[static_cast<std::size_t>((n * shape.c + c) * shape.s + s)] =
          scale * (dz(n, c, s) - sum / count - x_hat(n, c, s) * product / count);
    });
  }
  return result;
}

}  // namespace syncbn::test
