// SPDX-License-Identifier: Apache-2.0
#include "core/visit_dtype.hpp"

#include "kernels/reference/elements.hpp"
#include "kernels/reference/reference.hpp"

namespace syncbn::kernels::reference {
namespace {

template <class T>
void sum_channel(const ForwardSums& arguments, std::int64_t c) {
  long double sum = 0;
  long double sum_sq = 0;
  for_each_element(
      arguments.x, arguments.weight, c,
      [&](std::int64_t i, long double w) {
        const long double d = static_cast<long double>(load<T>(arguments.x.data(), i)) -
                              static_cast<long double>(arguments.pivot[c]);
        sum += w * d;
        sum_sq += w * d * d;
      },
      [](std::int64_t) {});
  arguments.sums[c] = static_cast<double>(sum);
  arguments.sums[arguments.x.shape().c + c] = static_cast<double>(sum_sq);
}

}  // namespace

void forward_sums(const ForwardSums& arguments, const ChannelRange& channels, const Run&) {
  visit_dtype(arguments.x.dtype(), [&]<class T>() {
    for (std::int64_t c = channels.begin; c < channels.end; ++c) {
      sum_channel<T>(arguments, c);
    }
  });
}

}  // namespace syncbn::kernels::reference
