// SPDX-License-Identifier: Apache-2.0
#include "app/scale/pings.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace syncbn::app::scale {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t most_pairs = 16;

}  // namespace

std::vector<Pair> pairs_of_hosts(const std::map<std::string, std::vector<int>>& hosts) {
  std::vector<int> first;
  for (const auto& [name, ranks] : hosts) {
    first.push_back(ranks.front());
  }
  std::ranges::sort(first);
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < first.size() && pairs.size() < most_pairs; ++i) {
    const int next = first[(i + 1) % first.size()];
    if (first[i] < next || first.size() > 2) {
      pairs.emplace_back(std::min(first[i], next), std::max(first[i], next));
    }
  }
  return first.size() > 1 ? pairs : std::vector<Pair>();
}

std::vector<double> Pings::one_way_times(std::size_t bytes, std::size_t fewest, std::size_t most,
                                         double seconds) {
  std::vector<std::byte> message(bytes);
  double longest = 0;
  for (int i = 0; i < 5; ++i) {
    longest = std::max(longest, one_way_time(message));  // to warm up
  }
  const double fit = longest > 0 ? seconds / (2 * longest) : 0;
  const std::size_t count = agree(std::clamp(static_cast<std::size_t>(fit), fewest, most));
  std::vector<double> times;
  for (std::size_t i = 0; i < count; ++i) {
    times.push_back(one_way_time(message));
  }
  return times;
}

double Pings::one_way_time(std::span<std::byte> message) {
  const Clock::time_point begin = Clock::now();
  if (rank_ == pair_.first) {
    mpi_.ping(pair_.second, message);
  } else {
    mpi_.return_ping(pair_.first, message);
  }
  return std::chrono::duration<double>(Clock::now() - begin).count() / 2;
}

std::size_t Pings::agree(std::size_t number) {
  std::vector<std::byte> message(sizeof number);
  std::memcpy(message.data(), &number, sizeof number);
  one_way_time(message);
  std::memcpy(&number, message.data(), sizeof number);
  return number;
}

}  // namespace syncbn::app::scale
