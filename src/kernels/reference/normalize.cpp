// SPDX-License-Identifier: Apache-2.0
#include "core/visit_dtype.hpp"

#include "kernels/reference/elements.hpp"
#include "kernels/reference/reference.hpp"

namespace syncbn::kernels::reference {
namespace {

template <class T>
void normalize_channel(const Normalize& arguments, std::int64_t c) {
  for_each_element(
      arguments.x, arguments.weight, c,
      [&](std::int64_t i, double) {
        const double x = load<T>(arguments.x.data(), i);
        double z = (x - arguments.mean[c]) * arguments.scale[c] + arguments.shift[c];
        if (arguments.residual != nullptr) {
          z += load<T>(arguments.residual, i);
        }
        store<T>(arguments.y, i, z < 0 ? lower_side(z, arguments.negative_slope) : z);
      },
      [&](std::int64_t i) { store<T>(arguments.y, i, 0); });
}

}  // namespace

void normalize(const Normalize& arguments, const ChannelRange& channels, const Run&) {
  visit_dtype(arguments.x.dtype(), [&]<class T>() {
    for (std::int64_t c = channels.begin; c < channels.end; ++c) {
      normalize_channel<T>(arguments, c);
    }
  });
}

}  // namespace syncbn::kernels::reference
