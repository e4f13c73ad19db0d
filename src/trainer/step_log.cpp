// SPDX-License-Identifier: Apache-2.0
#include "trainer/step_log.hpp"

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "syncbn/error.hpp"

namespace syncbn::trainer {
namespace {

/// Bytes up to the first line that is not a step before `first_step`.
std::uintmax_t length_before(const std::filesystem::path& file, std::int64_t first_step) {
  std::ifstream in(file);
  std::uintmax_t length = 0;
  for (std::string line; std::getline(in, line) && !in.eof(); length += line.size() + 1) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object() || json.value("step", first_step) >= first_step) {
      break;
    }
  }
  return length;
}

}  // namespace

StepLog::StepLog(const std::filesystem::path& file, std::int64_t first_step) : file_(file) {
  std::error_code error;
  if (std::filesystem::is_regular_file(file)) {
    std::filesystem::resize_file(file, length_before(file, first_step), error);
  }
  errno = 0;
  out_.open(file, std::ios::app);
  if (error || !out_) {
    throw FileError(fmt::format("log {} cannot be written ({})", file.string(),
                                error ? error.message() : std::strerror(errno)));
  }
}

void StepLog::write(const StepReport& report) {
  nlohmann::ordered_json json{
      {"step", report.step},
      {"epoch", report.epoch},
      {"loss", report.loss},
      {"learning_rate", report.learning_rate},
      {"images_per_s", static_cast<double>(report.images) / report.times.total},
      {"batch_norm_share", report.times.batch_norm_share()},
      {"exchange_share", report.times.exchange_share()},
  };
  if (report.test_accuracy) {
    json["test_accuracy"] = *report.test_accuracy;
  }
  out_ << json.dump() << std::endl;
  if (!out_) {
    throw FileError(fmt::format("log {} cannot be written. Is the disk full?", file_.string()));
  }
}

}  // namespace syncbn::trainer
