// SPDX-License-Identifier: Apache-2.0
#include "core/shared_memory.hpp"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <sys/mman.h>
#include <sys/stat.h>

#include "syncbn/error.hpp"

namespace syncbn {
namespace {

[[noreturn]] void fail(const std::string& doing, const std::string& problem) {
  throw CommError(doing + " memory that processes share: " + problem +
                  " (they must be of one user)");
}

[[noreturn]] void fail(const std::string& doing, std::size_t bytes, int error) {
  fail(doing + " " + std::to_string(bytes) + " bytes of", std::generic_category().message(error));
}

/// Returns a text that tells an open file from all others: device, inode and size.
std::string identity(int file) {
  struct stat found {};
  fstat(file, &found);
  return std::to_string(found.st_dev) + ":" + std::to_string(found.st_ino) + ":" +
         std::to_string(found.st_size);
}

}  // namespace

SharedMemory SharedMemory::create(std::size_t bytes) {
  SharedMemory memory(memfd_create("syncbn", MFD_CLOEXEC), bytes);
  if (!memory.file_) {
    fail("creating", bytes, errno);
  }
  int error = EINTR;
  while (error == EINTR) {
    error = posix_fallocate(memory.file_.get(), 0, static_cast<off_t>(bytes));
  }
  if (error != 0) {
    fail("reserving", bytes, error);
  }
  memory.map();
  return memory;
}

SharedMemory SharedMemory::open(const std::string& address) {
  const std::size_t blank = address.find(' ');
  const std::string path = address.substr(0, blank);
  SharedMemory memory(::open(path.c_str(), O_RDWR | O_CLOEXEC), 0);
  if (!memory.file_) {
    fail("opening", path + ": " + std::generic_category().message(errno));
  }
  if (identity(memory.file_.get()) != address.substr(blank + 1)) {
    fail("opening", path + " is something else (do they see different /proc?)");
  }
  struct stat found {};
  fstat(memory.file_.get(), &found);
  memory.bytes_ = static_cast<std::size_t>(found.st_size);
  memory.map();
  memory.hide();
  return memory;
}

void SharedMemory::map() {
  void* const data = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  if (data == MAP_FAILED) {
    fail("mapping", bytes_, errno);
  }
  data_ = static_cast<std::byte*>(data);
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_),
      file_(std::move(other.file_)) {}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) {
    munmap(data_, bytes_);
  }
}

std::string SharedMemory::address() const {
  // This /proc may be another PID namespace's and number the process differently from getpid.
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self", error);
  return "/proc/" + (error ? std::to_string(getpid()) : self.string()) + "/fd/" +
         std::to_string(file_.get()) + " " + identity(file_.get());
}

void SharedMemory::hide() {
  file_ = FileDescriptor();
}

}  // namespace syncbn
