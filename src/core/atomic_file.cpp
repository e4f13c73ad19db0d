// SPDX-License-Identifier: Apache-2.0
#include "core/atomic_file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <random>
#include <string>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <sys/stat.h>

#include "syncbn/error.hpp"

namespace syncbn {
namespace {

[[noreturn]] void throw_errno(const char* doing, const std::filesystem::path& file) {
  throw FileError(std::string("cannot ") + doing + " '" + file.string() + "' (" +
                  std::generic_category().message(errno) + ")");
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

/// Removes the file on the way out unless it has been renamed.
struct RemoveUnlessKept {
  std::string path;
  bool kept = false;
  ~RemoveUnlessKept() {
    if (!kept) {
      ::unlink(path.c_str());
    }
  }
};

void write_all(int fd, std::span<const std::byte> bytes, const std::filesystem::path& file) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw_errno("write", file);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

/// What is at the end of symbolic links, so that they stay.
std::filesystem::path without_links(const std::filesystem::path& file) {
  std::error_code failed;
  const std::filesystem::path target = std::filesystem::canonical(file, failed);
  return failed ? file : target;
}

/// The permissions of the file that is to be replaced, if there is one. Devices and pipes cannot be
/// replaced.
std::optional<mode_t> mode_of(const std::filesystem::path& file) {
  struct stat status;
  if (::stat(file.c_str(), &status) != 0) {
    return std::nullopt;
  }
  if (!S_ISREG(status.st_mode)) {
    throw FileError("cannot replace '" + file.string() + "' (it is not a regular file)");
  }
  return status.st_mode & 07777;
}

}  // namespace

void write_atomically(const std::filesystem::path& given,
                      std::initializer_list<std::span<const std::byte>> parts) {
  const std::filesystem::path file = without_links(given);
  const std::optional<mode_t> mode = mode_of(file);
  const std::filesystem::path directory =
      file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  const std::string name = file.string() + "." + std::to_string(std::random_device()()) + ".tmp";
  Descriptor fd(::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (fd.get() < 0) {
    throw_errno("create a file beside", file);
  }
  RemoveUnlessKept temporary{name};
  if (mode && ::fchmod(fd.get(), *mode) != 0) {
    throw_errno("give its permissions to a file beside", file);
  }
  for (const std::span<const std::byte> part : parts) {
    write_all(fd.get(), part, file);
  }
  if (::fsync(fd.get()) != 0 || ::close(fd.release()) != 0) {
    throw_errno("write", file);
  }
  if (::rename(name.c_str(), file.c_str()) != 0) {
    throw_errno("replace", file);
  }
  temporary.kept = true;
  // Makes the rename itself last. Some file systems cannot flush a directory; the file is whole.
  const Descriptor parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent.get() >= 0) {
    ::fsync(parent.get());
  }
}

}  // namespace syncbn
