// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "app/study/run.hpp"

namespace syncbn::app::study {

/// A Setting is an option of `syncbn train` on which what a run finds depends.
struct Setting {
  std::string option;  ///< "batch-size"
  std::string value;   ///< as it is typed; "" where it is left out
  std::string usual;   ///< what `syncbn train` takes if it is left out
};

/// Returns all settings of a run, in the order of the command that trains the same.
std::vector<Setting> settings_of(const Run& run);

/// Returns a checksum of what the runs are: their names, ranks, settings and recordings, but not in
/// which order they come or where the data set lies.
std::string checksum_of(std::span<const Run> runs);

}  // namespace syncbn::app::study
