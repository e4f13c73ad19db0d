// SPDX-License-Identifier: Apache-2.0
#include "comm/group/deadlines.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <optional>
#include <system_error>
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

/// Reads a decimal number that fills the text, but for leading blanks and a '+'; nullopt otherwise.
/// The locale does not matter: the point is always '.'. What no double holds becomes 0 or infinity.
std::optional<double> number_in(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  if (text.starts_with('+')) {
    text.remove_prefix(1);
  }
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (end != text.data() + text.size() || error == std::errc::invalid_argument) {
    return std::nullopt;
  }
  if (error == std::errc::result_out_of_range) {  // beyond what a double holds
    const bool small = text.find("e-") != text.npos || text.find("E-") != text.npos;
    return small ? 0.0 : std::numeric_limits<double>::infinity();
  }
  return number;
}

std::optional<std::chrono::milliseconds> from_environment(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == 0) {
    return std::nullopt;
  }
  const std::optional<double> read = number_in(text);
  if (!read || !(*read > 0)) {
    throw InvalidArgument(std::string("the environment has ") + variable + "='" + text +
                          "' (accepted: a number of seconds above 0)");
  }
  const double most = std::chrono::duration<double>(longest).count();
  return std::chrono::milliseconds(std::llround(std::ceil(1e3 * std::min(*read, most))));
}

}  // namespace

Deadlines validated(Deadlines deadlines) {
  return {validated(deadlines.fail), validated(deadlines.report)};
}

std::string in_seconds(std::chrono::milliseconds time) {
  // to_chars writes the same in every locale: ranks may have different ones.
  std::array<char, 32> digits{};
  const double seconds = std::chrono::duration<double>(time).count();
  char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), seconds,
                                  std::chars_format::general, 6)
                        .ptr;
  return std::string(digits.data(), end) + " s";
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
