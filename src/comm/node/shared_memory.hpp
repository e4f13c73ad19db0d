// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

#include "core/file_descriptor.hpp"

namespace syncbn::comm::node {

/// Memory that processes of a node share: the kernel's, not an MPI window, because unmapping it
/// waits for nobody, neither for a rank that died nor for one that frees its communicators in
/// another order.
///
/// It never has a name in a file system (memfd_create), so that nothing is left behind, however and
/// whenever the processes end. Others open it through /proc, which the kernel lets only processes
/// of the same user do.
class SharedMemory {
 public:
  /// Of zeros. Reserves it, so that a lack of memory shows here and not in the middle of an
  /// exchange. Throws CommError.
  static SharedMemory create(std::size_t bytes);
  /// `address` is the creator's, who has not hidden it yet. Throws CommError.
  static SharedMemory open(const std::string& address, std::size_t bytes);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  std::byte* data() const { return data_; }

  /// Of memory that was created: where the processes find it that see the same /proc.
  std::string address() const;
  /// From now on nobody opens it any more.
  void hide();

 private:
  SharedMemory(int file, std::size_t bytes) : bytes_(bytes), file_(file) {}
  void map();

  std::byte* data_ = nullptr;
  std::size_t bytes_;
  FileDescriptor file_;
};

}  // namespace syncbn::comm::node
