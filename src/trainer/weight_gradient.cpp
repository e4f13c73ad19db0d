// SPDX-License-Identifier: Apache-2.0
#include "trainer/weight_gradient.hpp"

// clang-format off: the order matters
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trainer/weight_gradient.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace syncbn::trainer::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Doubles = hn::ScalableTag<double>;
using Floats = hn::Rebind<float, Doubles>;

/// Holds what the loops below read and write, from their first output on.
struct Product {
  std::int64_t n, inputs, outputs;
  const float* x;   ///< [n, inputs]
  const float* dy;  ///< [n, outputs]
  double* dw;       ///< [outputs, inputs]
};

/// Computes `rows` outputs. Two vectors of inputs for each stay in registers over all samples.
template <int rows>
void compute_rows(const Product& product) {
  const Doubles d;
  const Floats f;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t k = 0;
  for (; k + 2 * lanes <= product.inputs; k += 2 * lanes) {
    hn::Vec<Doubles> low[rows], high[rows];
    for (int row = 0; row < rows; ++row) {
      low[row] = high[row] = hn::Zero(d);
    }
    for (std::int64_t i = 0; i < product.n; ++i) {
      const float* input = product.x + i * product.inputs + k;
      const auto x_low = hn::PromoteTo(d, hn::LoadU(f, input));
      const auto x_high = hn::PromoteTo(d, hn::LoadU(f, input + lanes));
      for (int row = 0; row < rows; ++row) {
        const auto gradient = hn::Set(d, product.dy[i * product.outputs + row]);
        low[row] = hn::MulAdd(gradient, x_low, low[row]);
        high[row] = hn::MulAdd(gradient, x_high, high[row]);
      }
    }
    for (int row = 0; row < rows; ++row) {
      hn::StoreU(low[row], d, product.dw + row * product.inputs + k);
      hn::StoreU(high[row], d, product.dw + row * product.inputs + k + lanes);
    }
  }
  for (; k < product.inputs; ++k) {
    for (int row = 0; row < rows; ++row) {
      double sum = 0;
      for (std::int64_t i = 0; i < product.n; ++i) {
        sum += static_cast<double>(product.dy[i * product.outputs + row]) *
               product.x[i * product.inputs + k];
      }
      product.dw[row * product.inputs + k] = sum;
    }
  }
}

void compute(Product product) {
  constexpr int block = 4;
  std::int64_t left = product.outputs;
  for (; left >= block; left -= block) {
    compute_rows<block>(product);
    product.dy += block;
    product.dw += block * product.inputs;
  }
  for (; left > 0; --left) {
    compute_rows<1>(product);
    product.dy += 1;
    product.dw += product.inputs;
  }
}

void dense(std::int64_t n, std::int64_t inputs, std::int64_t outputs, const float* x,
           const float* dy, double* dw) {
  compute({n, inputs, outputs, x, dy, dw});
}

}  // namespace syncbn::trainer::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::trainer {

HWY_EXPORT(dense);

void dense_weight_gradient(std::int64_t n, std::int64_t inputs, std::int64_t outputs,
                           const float* x, const float* dy, double* dw) {
  HWY_DYNAMIC_DISPATCH(dense)(n, inputs, outputs, x, dy, dw);
}

}  // namespace syncbn::trainer
#endif
