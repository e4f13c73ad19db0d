// SPDX-License-Identifier: Apache-2.0
//
// Noise: every rank does the same piece of work again and again, all at once and without exchange
// (fixed work quanta: Hoefler, Schneider & Lumsdaine, SC10). What a piece takes beyond the least of
// any rank is what the system, another process or a slower clock took from the rank.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>

#include <fmt/format.h>

#include "app/scale/cells.hpp"

namespace syncbn::app::scale {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double quantum = 50e-6;          ///< length of a piece of work [s]
constexpr std::size_t trace_length = 200;  ///< parts of the trace in the report

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Works in registers, so that no memory is waited for. Each step needs the one before.
std::uint64_t work(std::uint64_t state, std::int64_t steps) {
  for (std::int64_t i = 0; i < steps; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX
  }
  return state;
}

/// Pieces goes on with one long computation, a piece at a time.
class Pieces {
 public:
  /// Returns how long a piece of so many steps takes. [s]
  double time(std::int64_t steps) {
    const Clock::time_point begin = Clock::now();
    state_ = work(state_, steps);
    return seconds_since(begin);
  }

  /// Returns what was computed, which has to be used somewhere for the work to be done.
  std::uint64_t result() const { return state_; }

 private:
  std::uint64_t state_ = 1;
};

/// Returns how many steps take a quantum here, by the shortest of several tries.
double steps_of_quantum(Pieces& pieces) {
  constexpr std::int64_t steps = 100000;
  double least = 1;
  for (int i = 0; i < 50; ++i) {
    least = std::min(least, pieces.time(steps));
  }
  return static_cast<double>(steps) * quantum / least;
}

/// Returns the longest of each of `trace_length` successive parts.
Json trace_of(const std::vector<double>& times) {
  Json trace = Json::array();
  for (std::size_t part = 0; part < trace_length; ++part) {
    const auto begin =
        times.begin() + static_cast<std::ptrdiff_t>(part * times.size() / trace_length);
    const auto end =
        times.begin() + static_cast<std::ptrdiff_t>((part + 1) * times.size() / trace_length);
    trace.push_back(rounded(*std::max_element(begin, end)));
  }
  return trace;
}

/// Returns the share of the time beyond what pieces of `least` would have taken.
double lost(const std::vector<double>& times, double least) {
  double total = 0;
  for (const double time : times) {
    total += time;
  }
  return 1 - static_cast<double>(times.size()) * least / total;
}

/// Returns how long the longest of P pieces takes that are drawn from these: what P ranks wait for
/// that each do one. `sorted` ascending.
Json expected_longest(const std::vector<double>& sorted) {
  Json expected = Json::array();
  const auto count = static_cast<double>(sorted.size());
  for (const int ranks : {1, 4, 16, 64, 256, 1024}) {
    double sum = 0;
    for (std::size_t i = 0; i < sorted.size(); ++i) {
      const auto before = static_cast<double>(i);
      sum += sorted[i] * (std::pow((before + 1) / count, ranks) - std::pow(before / count, ranks));
    }
    expected.push_back({{"ranks", ranks}, {"time", rounded(sum)}});
  }
  return expected;
}

Json nanoseconds(const std::vector<double>& times) {
  Json numbers = Json::array();
  for (const double time : times) {
    numbers.push_back(std::lround(1e9 * time));
  }
  return numbers;
}

Found measure(const Plan& plan, const Group& group, std::size_t which) {
  Found found;
  if (!group.member) {
    return found;
  }
  const Communicator& ranks = *group.ranks;
  const std::size_t count = plan.budget == Budget::quick ? 10000 : 20000;
  Pieces pieces;
  // All take the piece that is a quantum on the fastest processor.
  const std::vector<double> wishes = ranks.all_gather(std::vector{steps_of_quantum(pieces)});
  const auto steps = static_cast<std::int64_t>(std::ranges::max(wishes));
  std::vector<double> own(count);
  ranks.all_gather(std::vector{0.0});  // all begin together
  for (double& time : own) {
    time = pieces.time(steps);
  }
  std::vector<double> all = ranks.all_gather(own);
  if (ranks.rank() != 0) {
    return found;
  }
  const double least = std::ranges::min(all);
  Json described = Json::array();
  Json samples = Json::array();
  for (std::size_t rank = 0; rank < group.plan.members.size(); ++rank) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(rank * count);
    const std::vector<double> times(begin, begin + static_cast<std::ptrdiff_t>(count));
    described.push_back({{"rank", group.plan.members[rank]},
                         {"time", describe(times)},
                         {"lost", rounded(lost(times, least))},
                         {"trace", trace_of(times)}});
    samples.push_back(nanoseconds(times));
  }
  std::ranges::sort(all);
  found.entries.push_back({{"kind", "noise"},
                           {"enough", true},
                           {"group", which},
                           {"quantum", quantum},
                           {"expected_longest", expected_longest(all)},
                           {"ranks", described}});
  found.samples = {{"piece_ns", samples}, {"result", pieces.result()}};
  return found;
}

}  // namespace

std::vector<Cell> noise_cells(const Plan& plan, const std::vector<Group>& groups) {
  const std::size_t which = groups.size() - 1;
  const Group& group = groups[which];
  return {{Kind::noise, "noise", fmt::format("noise of {} ranks", group.plan.members.size()),
           [=, &plan, &group](const StoppingRule&) { return measure(plan, group, which); }}};
}

}  // namespace syncbn::app::scale
