// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "trainer/report.hpp"

namespace syncbn::trainer {

/// Writes a file of JSON objects, one line a step, each complete before the next step begins.
class StepLog {
 public:
  /// Keeps the steps before `first_step` that the file already has, and goes on behind them; starts
  /// anew if that is 1. Throws FileError, also for a file with lines that no step log has, which it
  /// leaves as it was, and for a pipe that nobody reads.
  StepLog(const std::filesystem::path& file, std::int64_t first_step);

  /// Writes a step's line. Throws FileError.
  void write(const StepReport& report);

 private:
  struct Close {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
  };

  [[noreturn]] void refuse(const char* why) const;

  std::filesystem::path file_;
  std::unique_ptr<std::FILE, Close> out_;
};

}  // namespace syncbn::trainer
