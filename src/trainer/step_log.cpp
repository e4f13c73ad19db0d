// SPDX-License-Identifier: Apache-2.0
#include "trainer/step_log.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "syncbn/error.hpp"

namespace syncbn::trainer {
namespace {

constexpr std::string_view beginning = R"({"step":)";  ///< how every line begins

std::optional<std::int64_t> step_in(std::string_view line) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) {
    return std::nullopt;
  }
  return json["step"].get<std::int64_t>();
}

/// Tells whether the last line, which a killed run may have left unfinished, begins as a step does.
bool may_become_a_step(std::string_view line) {
  return line.starts_with(beginning) || beginning.starts_with(line);
}

/// Returns the bytes up to the first step that is not before `first_step`. Throws FileError for
/// what is no step log, because somebody may still need it.
std::uintmax_t length_before(const std::filesystem::path& file, std::int64_t first_step) {
  std::ifstream in(file);
  std::array<char, 4096> line{};  // more than a step takes
  std::uintmax_t length = 0;
  bool before = true;
  for (std::int64_t number = 1; in.getline(line.data(), line.size()) || in.gcount() > 0; ++number) {
    const bool whole = in && !in.eof();
    const auto got = static_cast<std::size_t>(in.gcount());
    const std::string_view text(line.data(), whole ? got - 1 : got);  // without the line's end
    const std::optional<std::int64_t> step = whole ? step_in(text) : std::nullopt;
    if (!step && !(in.eof() && may_become_a_step(text))) {
      throw FileError(
          fmt::format("{} is not overwritten (line {} is not of a step log of syncbn "
                      "train). Give --log another file, or remove this one.",
                      file.string(), number));
    }
    before = before && step && *step < first_step;
    length += before ? text.size() + 1 : 0;
  }
  return length;
}

}  // namespace

StepLog::StepLog(const std::filesystem::path& file, std::int64_t first_step) : file_(file) {
  // Without O_NONBLOCK, opening a pipe would wait for its reader.
  const int fd = ::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
  if (fd < 0) {
    refuse(errno == ENXIO ? "nobody reads this pipe; start its reader first"
                          : std::strerror(errno));
  }
  out_.reset(::fdopen(fd, "a"));
  struct stat status;
  if (!out_ || ::fstat(fd, &status) != 0 ||
      ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK) != 0) {
    refuse(std::strerror(errno));
  }
  if (S_ISREG(status.st_mode)) {
    const std::uintmax_t length = length_before(file, first_step);
    if (::ftruncate(fd, static_cast<off_t>(length)) != 0) {
      refuse(std::strerror(errno));
    }
  }
}

void StepLog::refuse(const char* why) const {
  throw FileError(
      fmt::format("log {} cannot be written ({}). Name another with --log?", file_.string(), why));
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
  const std::string line = json.dump() + '\n';
  if (std::fputs(line.c_str(), out_.get()) < 0 || std::fflush(out_.get()) != 0) {
    throw FileError(fmt::format("log {} cannot be written. Is the disk full?", file_.string()));
  }
}

}  // namespace syncbn::trainer
