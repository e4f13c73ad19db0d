// SPDX-License-Identifier: Apache-2.0
#include "app/check/findings.hpp"

#include <cmath>
#include <limits>

namespace syncbn::app::check {
namespace {

/// Judges one value, an element of channel c.
Worst judge(double value, const Exact& exact, std::size_t element, std::size_t c) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  double error = std::fabs(value - exact.values[element]);
  if (std::isnan(error)) {
    error = infinite;
  }
  const double tolerance = exact.tolerance[c];
  const double scale = exact.scale[c] > 0 ? exact.scale[c] : 1;
  const double used = error <= 0 ? 0 : tolerance > 0 ? error / tolerance : infinite;
  return {used, error / scale, tolerance / scale, 0};
}

void keep_worse(Worst& kept, const Worst& other) {
  if (other.used > kept.used) {
    kept = other;
  }
}

}  // namespace

Window window_of(const Case& one, const Shard& shard) {
  return {.whole = static_cast<std::size_t>(one.shape.per_channel()),
          .first = static_cast<std::size_t>(shard.begin * one.shape.s),
          .size = static_cast<std::size_t>(shard.size() * one.shape.s)};
}

Worst worst_of(std::span<const double> values, const Exact& exact, const Window& window) {
  Worst worst;
  for (std::size_t c = 0; c < exact.tolerance.size(); ++c) {
    for (std::size_t i = 0; i < window.size; ++i) {
      const std::size_t element = c * window.whole + window.first + i;
      keep_worse(worst, judge(values[c * window.size + i], exact, element, c));
    }
  }
  return worst;
}

const Worst& Findings::of(DType dtype, Quantity quantity) const {
  return worst_[static_cast<std::size_t>(dtype) * quantities + static_cast<std::size_t>(quantity)];
}

Worst& Findings::at(DType dtype, Quantity quantity) {
  return worst_[static_cast<std::size_t>(dtype) * quantities + static_cast<std::size_t>(quantity)];
}

void Findings::add(DType dtype, Quantity quantity, std::size_t case_index, Worst worst) {
  worst.case_index = static_cast<double>(case_index);
  keep_worse(at(dtype, quantity), worst);
}

void Findings::merge(const Communicator& world) {
  std::vector<double> mine;
  for (const Worst& worst : worst_) {
    mine.insert(mine.end(), {worst.used, worst.error, worst.tolerance, worst.case_index});
  }
  const std::vector<double> all = world.all_gather(mine);
  for (std::size_t i = 0; i < all.size(); i += 4) {
    keep_worse(worst_[i / 4 % worst_.size()], {all[i], all[i + 1], all[i + 2], all[i + 3]});
  }
}

}  // namespace syncbn::app::check
