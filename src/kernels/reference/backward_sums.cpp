// SPDX-License-Identifier: Apache-2.0
#include "core/visit_dtype.hpp"

#include "kernels/reference/elements.hpp"
#include "kernels/reference/reference.hpp"
#include "kernels/reference/upstream.hpp"

namespace syncbn::kernels::reference {
namespace {

template <class T>
void sum_channel(const BackwardSums& arguments, std::int64_t c) {
  const Upstream& upstream = arguments.upstream;
  long double sum_dz = 0;
  long double sum_dz_x = 0;
  for_each_element(upstream.x, c, [&](std::int64_t i) {
    const long double dz = upstream_gradient<T>(upstream, c, i);
    sum_dz += dz;
    sum_dz_x += dz * (static_cast<long double>(load<T>(upstream.x.data(), i)) -
                      static_cast<long double>(upstream.mean[c]));
  });
  arguments.sum_dz[c] = static_cast<double>(sum_dz);
  arguments.sum_dz_x[c] = static_cast<double>(sum_dz_x);
}

}  // namespace

void backward_sums(const BackwardSums& arguments) {
  visit_dtype(arguments.upstream.x.dtype(), [&]<class T>() {
    for (std::int64_t c = 0; c < arguments.upstream.x.shape().c; ++c) {
      sum_channel<T>(arguments, c);
    }
  });
}

}  // namespace syncbn::kernels::reference
