// SPDX-License-Identifier: Apache-2.0
#include "app/progress.hpp"

#include <unistd.h>

#include <fmt/format.h>

namespace syncbn::app {

bool is_bar(ProgressStyle style) {
  return style == ProgressStyle::bar ||
         (style == ProgressStyle::automatic && isatty(STDERR_FILENO) == 1);
}

std::string progress_bar(std::int64_t done, std::int64_t total) {
  constexpr std::int64_t width = 30;
  const std::int64_t filled = width * done / total;
  return fmt::format("[{:#>{}}{:->{}}]", "", filled, "", width - filled);
}

}  // namespace syncbn::app
