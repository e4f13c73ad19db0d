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
  for_each_element(
      upstream.data, upstream.weight, c,
      [&](std::int64_t i, double) {
        const Element element = upstream_element<T>(upstream, c, i);
        sum_dz += element.dz;
        sum_dz_x += static_cast<long double>(element.dz) * element.centered;
      },
      [](std::int64_t) {});
  arguments.sums[c] = static_cast<double>(sum_dz);
  arguments.sums[upstream.data.shape().c + c] = static_cast<double>(sum_dz_x);
}

}  // namespace

void backward_sums(const BackwardSums& arguments, const ChannelRange& channels, const Run&) {
  visit_dtype(arguments.upstream.data.dtype(), [&]<class T>() {
    for (std::int64_t c = channels.begin; c < channels.end; ++c) {
      sum_channel<T>(arguments, c);
    }
  });
}

}  // namespace syncbn::kernels::reference
