// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>

#include "app/scale/windows.hpp"

namespace syncbn::app::scale {
namespace {

using Times = std::vector<std::vector<Nanoseconds>>;

constexpr double second = 1e-9;  // [s/ns]

Nanoseconds first(const Times& times, std::size_t repetition) {
  Nanoseconds found = times.front()[repetition];
  for (const std::vector<Nanoseconds>& rank : times) {
    found = std::min(found, rank[repetition]);
  }
  return found;
}

Nanoseconds last(const Times& times, std::size_t repetition) {
  Nanoseconds found = times.front()[repetition];
  for (const std::vector<Nanoseconds>& rank : times) {
    found = std::max(found, rank[repetition]);
  }
  return found;
}

template <class Length>
std::vector<double> of_each(std::size_t repetitions, Length length) {
  std::vector<double> lengths;
  for (std::size_t repetition = 0; repetition < repetitions; ++repetition) {
    lengths.push_back(second * static_cast<double>(length(repetition)));
  }
  return lengths;
}

}  // namespace

std::vector<double> Arrivals::after_last_arrival() const {
  return of_each(repetitions(), [&](std::size_t i) { return last(exit, i) - last(arrival, i); });
}

std::vector<double> Arrivals::spread() const {
  return of_each(repetitions(),
                 [&](std::size_t i) { return last(arrival, i) - first(arrival, i); });
}

std::vector<double> Arrivals::lag(std::size_t rank) const {
  return of_each(repetitions(),
                 [&](std::size_t i) { return arrival[rank][i] - first(arrival, i); });
}

std::vector<double> Arrivals::from_first_arrival() const {
  return of_each(repetitions(), [&](std::size_t i) { return last(exit, i) - first(arrival, i); });
}

std::vector<std::size_t> Arrivals::long_waits() const {
  const double usual = median(after_last_arrival()).value;
  const std::vector<double> waits = spread();
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < waits.size(); ++i) {
    if (waits[i] > usual) {
      found.push_back(i);
    }
  }
  return found;
}

double Arrivals::share_last(std::size_t rank, std::span<const std::size_t> repetitions) const {
  if (repetitions.empty()) {
    return 0;
  }
  const auto times = std::ranges::count_if(
      repetitions, [&](std::size_t i) { return arrival[rank][i] == last(arrival, i); });
  return static_cast<double>(times) / static_cast<double>(repetitions.size());
}

void add_ranks(Json& entry, const Arrivals& arrivals, std::span<const int> members) {
  const std::vector<std::size_t> waits = arrivals.long_waits();
  std::vector<std::size_t> all(arrivals.repetitions());
  std::iota(all.begin(), all.end(), std::size_t{0});
  Json ranks = Json::array();
  for (std::size_t rank = 0; rank < arrivals.ranks(); ++rank) {
    ranks.push_back({{"rank", members[rank]},
                     {"lag", describe(arrivals.lag(rank))},
                     {"last", rounded(arrivals.share_last(rank, all))},
                     {"last_in_long_waits", rounded(arrivals.share_last(rank, waits))}});
  }
  entry["long_waits"] = waits.size();
  entry["ranks"] = std::move(ranks);
}

}  // namespace syncbn::app::scale
