// SPDX-License-Identifier: Apache-2.0
#include "comm/node/shared_memory.hpp"

#include <cerrno>
#include <fcntl.h>
#include <random>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <sys/mman.h>

#include "syncbn/error.hpp"

namespace syncbn::comm::node {
namespace {

[[noreturn]] void fail(const std::string& doing, std::size_t bytes, int error) {
  throw CommError(doing + " " + std::to_string(bytes) +
                  " bytes of shared memory: " + std::generic_category().message(error) +
                  " (the ranks of a host meet in /dev/shm; a container needs --shm-size or --ipc "
                  "for more of it, or choose the vendor exchange)");
}

/// Closed when it goes out of scope: a mapping does not need it.
struct OpenFile {
  int number;
  explicit OpenFile(int opened) : number(opened) {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (number >= 0) {
      close(number);
    }
  }
};

std::byte* map(const OpenFile& file, std::size_t bytes) {
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.number, 0);
  if (data == MAP_FAILED) {
    fail("mapping", bytes, errno);
  }
  return static_cast<std::byte*>(data);
}

}  // namespace

SharedMemory SharedMemory::create(std::size_t bytes) {
  std::random_device random;
  std::string name;
  int opened = -1;
  do {
    name = "/syncbn-" + std::to_string(getpid()) + "-" + std::to_string(random());
    opened = shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, S_IRUSR | S_IWUSR);
  } while (opened < 0 && errno == EEXIST);
  const OpenFile file(opened);
  if (opened < 0) {
    fail("creating", bytes, errno);
  }
  SharedMemory memory(name, nullptr, bytes, true);  // goes again, whatever comes
  int error = EINTR;
  while (error == EINTR) {
    error = posix_fallocate(file.number, 0, static_cast<off_t>(bytes));
  }
  if (error != 0) {
    fail("reserving", bytes, error);
  }
  memory.data_ = map(file, bytes);
  return memory;
}

SharedMemory SharedMemory::open(const std::string& name, std::size_t bytes) {
  const OpenFile file(shm_open(name.c_str(), O_RDWR, 0));
  if (file.number < 0) {
    fail("opening", bytes, errno);
  }
  return {name, map(file, bytes), bytes, false};
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : name_(std::move(other.name_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_),
      named_(std::exchange(other.named_, false)) {}

SharedMemory::~SharedMemory() {
  unlink();
  if (data_ != nullptr) {
    munmap(data_, bytes_);
  }
}

void SharedMemory::unlink() {
  if (std::exchange(named_, false)) {
    shm_unlink(name_.c_str());
  }
}

}  // namespace syncbn::comm::node
