// SPDX-License-Identifier: Apache-2.0
#include "comm/deadlines.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <sstream>
#include <utility>

#include "syncbn/error.hpp"

namespace syncbn {
namespace comm {
namespace {

constexpr std::chrono::milliseconds longest = std::chrono::days(365);

std::mutex handler_mutex;

ReportHandler& handler() {
  static ReportHandler the_handler;
  return the_handler;
}

std::chrono::milliseconds validated(std::chrono::milliseconds time) {
  if (time <= std::chrono::milliseconds::zero()) {
    throw InvalidArgument("a timeout of " + in_seconds(time) + " (it must be above 0)");
  }
  return std::min(time, longest);
}

std::optional<std::chrono::milliseconds> from_environment(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == 0) {
    return std::nullopt;
  }
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (*end != 0 || !(seconds > 0)) {
    throw InvalidArgument(std::string("the environment has ") + variable + "='" + text +
                          "' (accepted: a number of seconds above 0)");
  }
  const double most = std::chrono::duration<double>(longest).count();
  return std::chrono::milliseconds(std::llround(std::ceil(1e3 * std::min(seconds, most))));
}

}  // namespace

Deadlines validated(Deadlines deadlines) {
  return {validated(deadlines.fail), validated(deadlines.report)};
}

std::string in_seconds(std::chrono::milliseconds time) {
  std::ostringstream text;
  text << std::chrono::duration<double>(time).count() << " s";
  return text.str();
}

void report(std::string_view line) noexcept {
  try {
    ReportHandler call;
    {
      const std::scoped_lock lock(handler_mutex);
      call = handler();
    }
    if (call) {
      call(line);
    }
  } catch (...) {  // the exchange goes on, or fails for a reason of its own
  }
}

void report_end_of_wait(std::string_view what, std::chrono::nanoseconds waited) noexcept {
  try {
    report(std::string(what) + ": went on after " +
           in_seconds(std::chrono::round<std::chrono::milliseconds>(waited)));
  } catch (...) {  // no memory for a report
  }
}

}  // namespace comm

Deadlines default_deadlines() {
  return default_deadlines(comm::from_environment("SYNCBN_TIMEOUT").value_or(default_timeout));
}

Deadlines default_deadlines(std::chrono::milliseconds fail) {
  Deadlines deadlines = fail;
  deadlines.report = comm::from_environment("SYNCBN_REPORT_AFTER").value_or(deadlines.report);
  return deadlines;
}

void set_report_handler(ReportHandler handler) {
  const std::scoped_lock lock(comm::handler_mutex);
  comm::handler() = std::move(handler);
}

}  // namespace syncbn
