// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/clocks.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <limits>
#include <string>

#include <fmt/format.h>

#include "app/doctor/first_line.hpp"

namespace syncbn::app::doctor {
namespace {

constexpr double slow_read = 200e-9;  ///< [s] 20 to 50 ns without a system call, 500 ns with one
constexpr double most_apart = 60;     ///< [s]

/// Returns how long one read takes: the least of several batches, since others may take the
/// processor. [s]
double cost_of_a_read() {
  using Clock = std::chrono::steady_clock;
  constexpr int reads = 2000;
  double least = std::numeric_limits<double>::infinity();
  for (int batch = 0; batch < 20; ++batch) {
    const Clock::time_point begin = Clock::now();
    Clock::time_point end = begin;
    for (int i = 0; i < reads; ++i) {
      end = Clock::now();
    }
    least = std::min(least, std::chrono::duration<double>(end - begin).count() / reads);
  }
  return least;
}

/// With these sources programs read the clock without a system call.
bool is_fast(const std::string& source) {
  return source == "tsc" || source == "arch_sys_counter" || source == "kvm-clock" ||
         source == "timebase" || source.starts_with("hyperv_clocksource_tsc");
}

Verdict judge_source(const Members& members) {
  const ClockFacts& facts = members.facts.front().clock;
  const std::string source = facts.source.empty() ? "unknown" : facts.source;
  if (facts.read_cost > slow_read || (!facts.source.empty() && !is_fast(facts.source))) {
    // The time itself differs from run to run, and from host to host.
    return {Severity::warning,
            fmt::format("clock source {}: a read takes {:.0f} ns", source, 1e9 * facts.read_cost),
            "Boot with tsc=reliable clocksource=tsc if the processor's TSC is constant, or ask the "
            "provider of the virtual machine; /sys/devices/system/clocksource/clocksource0/"
            "available_clocksource lists what there is. Times of short exchanges are too long "
            "meanwhile."};
  }
  return {facts.source.empty() ? Severity::unknown : Severity::ok,
          fmt::format("clock source {}, read in less than {:.0f} ns", source, 1e9 * slow_read), ""};
}

/// Returns the host whose wall clock shows the least, or the most.
const Facts& outermost(const Members& members, bool latest) {
  const auto wall_clock = [](const Facts& facts) { return facts.clock.wall_clock; };
  return latest ? *std::ranges::max_element(members.facts, {}, wall_clock)
                : *std::ranges::min_element(members.facts, {}, wall_clock);
}

Verdict judge_wall_clocks(const Members& members) {
  const Facts& first = outermost(members, false);
  const Facts& last = outermost(members, true);
  const double apart = last.clock.wall_clock - first.clock.wall_clock;
  if (apart <= most_apart) {
    return {Severity::ok, "wall clocks agree within a minute", ""};
  }
  return {Severity::warning,
          fmt::format("the wall clock of {} is {:.0f} s ahead of that of {}", last.host, apart,
                      first.host),
          "Let all hosts follow one server of time: `systemctl enable --now chronyd` (or "
          "systemd-timesyncd). Until then times of files and validity of certificates are wrong."};
}

}  // namespace

ClockFacts read_clock(const std::filesystem::path& root) {
  return {.source =
              first_line(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
          .read_cost = cost_of_a_read()};
}

std::vector<Finding> find_about_clocks(const std::vector<Facts>& all) {
  std::vector<Finding> findings = judge("clock-source", by_machine(all), judge_source);
  std::ranges::move(judge("wall-clocks", {everybody(all)}, judge_wall_clocks),
                    std::back_inserter(findings));
  return findings;
}

}  // namespace syncbn::app::doctor
