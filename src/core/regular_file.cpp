// SPDX-License-Identifier: Apache-2.0
#include "core/regular_file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <string>
#include <system_error>
#include <unistd.h>

#include <sys/stat.h>

#include "syncbn/error.hpp"

namespace syncbn {
namespace {

[[noreturn]] void refuse_to_read(const std::filesystem::path& path, const std::string& why) {
  throw FileError("cannot read '" + path.string() + "' (" + why + ")");
}

}  // namespace

RegularFile::RegularFile(std::filesystem::path path)
    : path_(std::move(path)),
      // With O_NONBLOCK, opening a pipe does not wait for its writer.
      descriptor_(::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) {
  struct stat status;
  if (!descriptor_ || ::fstat(descriptor_.get(), &status) != 0) {
    refuse_to_read(path_, std::generic_category().message(errno));
  }
  if (!S_ISREG(status.st_mode)) {
    refuse_to_read(path_, "it is no regular file");
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

void RegularFile::read(std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = ::read(descriptor_.get(), bytes.data(), bytes.size());
    if (got < 0 && errno != EINTR) {
      refuse_to_read(path_, std::generic_category().message(errno));
    }
    if (got == 0) {
      refuse_to_read(path_, "it ends " + std::to_string(bytes.size()) + " bytes too early");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(got < 0 ? 0 : got));
  }
}

}  // namespace syncbn
