// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>

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

std::vector<double> Arrivals::inside(std::size_t rank) const {
  return of_each(repetitions(), [&](std::size_t i) { return exit[rank][i] - arrival[rank][i]; });
}

std::vector<double> Arrivals::from_first_arrival() const {
  return of_each(repetitions(), [&](std::size_t i) { return last(exit, i) - first(arrival, i); });
}

double Arrivals::share_last(std::size_t rank) const {
  std::size_t times_last = 0;
  for (std::size_t i = 0; i < repetitions(); ++i) {
    times_last += arrival[rank][i] == last(arrival, i) ? 1 : 0;
  }
  return static_cast<double>(times_last) / static_cast<double>(repetitions());
}

Json describe_ranks(const Arrivals& arrivals, std::span<const int> members) {
  Json ranks = Json::array();
  for (std::size_t rank = 0; rank < arrivals.ranks(); ++rank) {
    ranks.push_back({{"rank", members[rank]},
                     {"lag", describe(arrivals.lag(rank))},
                     {"last", rounded(arrivals.share_last(rank))},
                     {"time", describe(arrivals.inside(rank))}});
  }
  return ranks;
}

}  // namespace syncbn::app::scale
