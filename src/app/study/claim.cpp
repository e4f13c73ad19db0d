// SPDX-License-Identifier: Apache-2.0
#include "app/study/claim.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <numeric>

#include <fmt/format.h>

namespace syncbn::app::study {
namespace {

/// Returns the 0.975 quantile of Student's t distribution. Beyond the table it returns that of the
/// table's last entry, which is larger.
double t_quantile(std::size_t degrees_of_freedom) {
  constexpr double table[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365,
                              2.306,  2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
                              2.131,  2.120, 2.110, 2.101, 2.093, 2.086};
  return table[std::min(degrees_of_freedom, std::size(table)) - 1];
}

Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

const char* to_string(Claim::Test test) {
  return test == Claim::Test::above ? "above" : test == Claim::Test::below ? "below" : "within";
}

}  // namespace

const char* to_string(Verdict verdict) {
  return verdict == Verdict::held           ? "held"
         : verdict == Verdict::did_not_hold ? "did not hold"
                                            : "not decided";
}

Band band(const std::vector<double>& values, double resolution) {
  const std::size_t count = values.size();
  const auto n = static_cast<double>(count);
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  if (count < 2 || !std::isfinite(mean)) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    return {mean, -infinity, infinity};
  }
  double squares = 0;
  for (const double value : values) {
    squares += (value - mean) * (value - mean);
  }
  const double half = t_quantile(count - 1) * std::sqrt(squares / (n - 1) / n) + resolution;
  return {mean, mean - half, mean + half};
}

Verdict verdict(const Claim& claim) {
  const Band found = band(claim.values, claim.resolution);
  const auto decided = [](bool holds, bool fails) {
    return holds ? Verdict::held : fails ? Verdict::did_not_hold : Verdict::not_decided;
  };
  const double margin = claim.margin;
  switch (claim.test) {
    case Claim::Test::above:
      return decided(found.low > margin, found.high < margin);
    case Claim::Test::below:
      return decided(found.high<margin, found.low> margin);
    case Claim::Test::within:
      break;
  }
  return decided(found.low > -margin && found.high<margin, found.low> margin ||
                 found.high < -margin);
}

Verdict verdict(const std::vector<Claim>& claims) {
  const auto any = [&](Verdict which) {
    return std::ranges::any_of(claims, [&](const Claim& claim) {
      const bool counts = claim.control || &claim == &claims.front();
      return counts && verdict(claim) == which;
    });
  };
  return any(Verdict::did_not_hold)                    ? Verdict::did_not_hold
         : any(Verdict::not_decided) || claims.empty() ? Verdict::not_decided
                                                       : Verdict::held;
}

Json to_json(const Claim& claim) {
  const Band found = band(claim.values, claim.resolution);
  return {{"claim", claim.text},      {"verdict", to_string(verdict(claim))},
          {"control", claim.control}, {"quantity", claim.quantity},
          {"unit", claim.unit},       {"test", to_string(claim.test)},
          {"margin", claim.margin},   {"resolution", claim.resolution},
          {"values", claim.values},   {"mean", number(found.mean)},
          {"low", number(found.low)}, {"high", number(found.high)}};
}

std::string amount(const Claim& claim) {
  const Band found = band(claim.values, claim.resolution);
  const std::size_t seeds = claim.values.size();
  const std::string count = fmt::format("{} seed{}", seeds, seeds == 1 ? "" : "s");
  if (!std::isfinite(found.mean)) {
    return fmt::format("no number ({})", count);
  }
  const std::string unit = claim.unit.empty() ? "" : " " + claim.unit;
  return seeds < 2 ? fmt::format("{:+.3g}{} ({})", found.mean, unit, count)
                   : fmt::format("{:+.3g}{} ({:+.3g} to {:+.3g}, {})", found.mean, unit, found.low,
                                 found.high, count);
}

}  // namespace syncbn::app::study
