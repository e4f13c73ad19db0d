// SPDX-License-Identifier: Apache-2.0
#include "app/flight_directory.hpp"

#include <cerrno>
#include <stdlib.h>
#include <string>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "app/args.hpp"
#include "trainer/agreement.hpp"

namespace syncbn::app {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& directory, const char* what,
                         const std::string& why) {
  throw FileError(
      fmt::format("{} cannot be {} ({}). Give --flight-record, or SYNCBN_FLIGHT_RECORD "
                  "in the environment, another directory.",
                  directory.string(), what, why));
}

void make_and_try(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    refuse(directory, "made", error.message());
  }
  // Only making a file shows for certain that it is permitted.
  std::string name = (directory / ".syncbn-XXXXXX").string();
  const int file = ::mkstemp(name.data());
  if (file < 0) {
    refuse(directory, "written to", std::generic_category().message(errno));
  }
  ::close(file);
  ::unlink(name.c_str());
}

}  // namespace

void prepare_flight_directory(const Communicator& world, const std::filesystem::path& directory) {
  try {
    trainer::agree(world, [&] {
      if (!directory.empty()) {
        make_and_try(directory);
      }
    });
  } catch (const FileError& error) {
    throw UsageError(error.what());
  }
}

}  // namespace syncbn::app
