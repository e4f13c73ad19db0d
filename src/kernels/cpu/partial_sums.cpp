// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/partial_sums.hpp"

#include <algorithm>
#include <cstddef>

namespace syncbn::kernels::cpu {
namespace {

void fold(const double* column, std::int64_t width, const Extents& extents, double* totals) {
  std::fill_n(totals, extents.channels, 0.0);
  for (const double* end = column + width; column < end;) {
    for (std::int64_t c = 0; c < extents.channels; ++c) {
      for (std::int64_t s = 0; s < extents.plane; ++s) {
        totals[c] += *column++;
      }
    }
  }
}

}  // namespace

PartialSums::PartialSums(std::int64_t parts, std::int64_t columns)
    : parts_(parts), columns_(columns), memory_(static_cast<std::size_t>(2 * parts * columns)) {}

void PartialSums::combine(const Extents& extents, std::int64_t width, double* totals_first,
                          double* totals_second) {
  double* totals = memory_.data();
  for (std::int64_t part = 1; part < parts_; ++part) {
    const double* more = first(part);
    for (std::int64_t j = 0; j < 2 * columns_; ++j) {
      totals[j] += more[j];
    }
  }
  fold(first(0), width, extents, totals_first);
  fold(second(0), width, extents, totals_second);
}

}  // namespace syncbn::kernels::cpu
