// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/partial_sums.hpp"

#include <algorithm>

namespace syncbn::kernels::cpu {

PartialSums::PartialSums(std::int64_t parts, std::int64_t columns, Scratch& scratch)
    : parts_(parts), columns_(columns), memory_(scratch.take<double>(2 * parts * columns)) {
  std::fill_n(memory_, 2 * parts * columns, 0.0);
}

void PartialSums::combine() const {
  for (std::int64_t part = 1; part < parts_; ++part) {
    const double* more = first(part);
    for (std::int64_t j = 0; j < 2 * columns_; ++j) {
      memory_[j] += more[j];
    }
  }
}

}  // namespace syncbn::kernels::cpu
