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
  const auto write = [&](std::int64_t i, double dx, double dresidual) {
    if (arguments.dresidual != nullptr) {
      store<T>(arguments.dresidual, i, dresidual);
    }
    store<T>(arguments.dx, i, dx);
  };
  for_each_element(
      upstream.data, upstream.weight, c,
      [&](std::int64_t i, double w) {
        const Element element = upstream_element<T>(upstream, c, i);
        const double share = arguments.mean_dz[c] + element.centered * arguments.grad_slope[c];
        write(i, upstream.scale[c] * (element.dz - w * share), element.dz);
      },
      [&](std::int64_t i) { write(i, 0, 0); });
}

}  // namespace

void input_gradient(const InputGradient& arguments, const ChannelRange& channels, const Run&) {
  visit_dtype(arguments.upstream.data.dtype(), [&]<class T>() {
    for (std::int64_t c = channels.begin; c < channels.end; ++c) {
      channel_gradient<T>(arguments, c);
    }
  });
}

}  // namespace syncbn::kernels::reference
