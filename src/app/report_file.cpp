// SPDX-License-Identifier: Apache-2.0
#include "app/report_file.hpp"

#include <span>
#include <unistd.h>

#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "core/atomic_file.hpp"

#include "trainer/agreement.hpp"

namespace syncbn::app {

void require_writable(const Communicator& world, const std::filesystem::path& file) {
  if (file.empty()) {
    return;
  }
  trainer::agree(world, [&] {
    if (world.rank() != 0) {
      return;
    }
    const std::filesystem::path given = file.parent_path();
    const std::filesystem::path directory = given.empty() ? "." : given;
    if (!std::filesystem::is_directory(directory)) {
      throw FileError(fmt::format("{} cannot be written ({} is not a directory). Make it first.",
                                  file.string(), directory.string()));
    }
    if (std::filesystem::is_directory(file)) {
      throw FileError(fmt::format("{} cannot be written (it is a directory). Name a file in it.",
                                  file.string()));
    }
    if (std::filesystem::exists(file) && !std::filesystem::is_regular_file(file)) {
      throw FileError(fmt::format("{} cannot be written (it is not a regular file). Name another.",
                                  file.string()));
    }
    if (access(directory.c_str(), W_OK) != 0) {
      throw FileError(
          fmt::format("{} cannot be written (no permission in {}). Choose another place.",
                      file.string(), directory.string()));
    }
  });
}

void write_report(const Communicator& world, const std::filesystem::path& file,
                  const std::string& text) {
  if (file.empty()) {
    return;
  }
  trainer::agree(world, [&] {
    if (world.rank() == 0) {
      write_atomically(file, {std::as_bytes(std::span(text))});
    }
  });
}

}  // namespace syncbn::app
