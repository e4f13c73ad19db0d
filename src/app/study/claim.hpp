// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/json.hpp"

namespace syncbn::app::study {

enum class Verdict : std::uint8_t { held, did_not_hold, not_decided };

const char* to_string(Verdict verdict);

/// A Claim is a sentence that the data of several seeds support, contradict, or leave open.
struct Claim {
  enum class Test : std::uint8_t {
    above,   ///< the quantity is larger than the margin
    below,   ///< it is smaller
    within,  ///< its absolute value is smaller
  };

  std::string text;      ///< "Batch norm reaches a higher accuracy."
  std::string quantity;  ///< what the values are: "test accuracy, with batch norm less without"
  std::string unit;      ///< "points", which are hundredths; "decades"; ""
  Test test = Test::above;
  double margin = 0;
  double resolution = 0;       ///< a value that is read off a grid may be off by so much
  bool control = false;        ///< the main claim says what it says only if this one holds, too
  std::vector<double> values;  ///< one for each seed
};

/// A Band tells where the mean of a quantity over all seeds lies, by what some seeds gave.
struct Band {
  double mean = 0;           ///< of these seeds
  double low = 0, high = 0;  ///< ends of the interval of 95 % confidence
};

/// Returns the interval by Student's t distribution ("The probable error of a mean", Biometrika 6,
/// 1908), wider by the resolution on both sides. It is infinite for less than two values, and where
/// one of them is no number.
Band band(const std::vector<double>& values, double resolution = 0);

/// Decides only where the whole band lies on one side of the margin; of two margins, for `within`.
Verdict verdict(const Claim& claim);

/// Returns the verdict of an experiment, by its main claim, which is the first, and the controls:
/// held if all of these are, did_not_hold if one of them did not, else not_decided.
Verdict verdict(const std::vector<Claim>& claims);

Json to_json(const Claim& claim);

/// Returns by how much a claim held or not: "+16.6 points (+15.9 to +17.3, 3 seeds)".
std::string amount(const Claim& claim);

}  // namespace syncbn::app::study
