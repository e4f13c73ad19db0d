// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

namespace syncbn::comm::node {

/// Memory that processes of a node share: POSIX, not an MPI window, because unmapping it waits for
/// nobody, neither for a rank that died nor for one that frees its communicators in another order.
class SharedMemory {
 public:
  /// Of zeros, under a new name. Reserves it, so that a full /dev/shm is an error here and not a
  /// signal later. Throws CommError.
  static SharedMemory create(std::size_t bytes);
  /// Throws CommError if this process cannot see it.
  static SharedMemory open(const std::string& name, std::size_t bytes);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  const std::string& name() const { return name_; }
  std::byte* data() const { return data_; }

  /// Removes the name; nothing is left behind then, however the processes end. The creator does so
  /// when all have it open, or when it is destroyed.
  void unlink();

 private:
  SharedMemory(std::string name, std::byte* data, std::size_t bytes, bool named)
      : name_(std::move(name)), data_(data), bytes_(bytes), named_(named) {}

  std::string name_;
  std::byte* data_;
  std::size_t bytes_;
  bool named_;  ///< by us, still
};

}  // namespace syncbn::comm::node
