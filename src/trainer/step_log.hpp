// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>

#include "trainer/report.hpp"

namespace syncbn::trainer {

/// A file of JSON objects, one line a step, each complete before the next step begins.
class StepLog {
 public:
  /// Goes on behind the steps before `first_step` that the file already has; starts anew if that is
  /// 1. Throws FileError.
  StepLog(const std::filesystem::path& file, std::int64_t first_step);

  /// Throws FileError.
  void write(const StepReport& report);

 private:
  std::filesystem::path file_;
  std::ofstream out_;
};

}  // namespace syncbn::trainer
