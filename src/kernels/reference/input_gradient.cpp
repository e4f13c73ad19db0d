// SPDX-License-Identifier: Apache-2.0
#include "core/visit_dtype.hpp"

#include "kernels/reference/elements.hpp"
#include "kernels/reference/reference.hpp"
#include "kernels/reference/upstream.hpp"

namespace syncbn::kernels::reference {
namespace {

template <class T>
void channel_gradient(const InputGradient& arguments, std::int64_t c) {
  const Upstream& upstream = arguments.upstream;
  for_each_element(upstream.x, c, [&](std::int64_t i) {
    const double dz = upstream_gradient<T>(upstream, c, i);
    const double x = load<T>(upstream.x.data(), i);
    if (arguments.dresidual != nullptr) {
      store<T>(arguments.dresidual, i, dz);
    }
    store<T>(arguments.dx, i,
             upstream.scale[c] *
                 ((dz - arguments.mean_dz[c]) - (x - upstream.mean[c]) * arguments.slope[c]));
  });
}

}  // namespace

void input_gradient(const InputGradient& arguments) {
  visit_dtype(arguments.upstream.x.dtype(), [&]<class T>() {
    for (std::int64_t c = 0; c < arguments.upstream.x.shape().c; ++c) {
      channel_gradient<T>(arguments, c);
    }
  });
}

}  // namespace syncbn::kernels::reference
