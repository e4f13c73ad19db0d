// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

#include "core/file_descriptor.hpp"

namespace syncbn {

/// Maps memory that processes of a host share. It comes from the kernel and is no MPI window,
/// because to unmap it waits for no rank: neither one that died nor one that frees its
/// communicators in another order.
///
/// The memory never has a name in a file system (memfd_create), so that nothing is left behind,
/// however and whenever the processes end. Others open it through /proc, which the kernel lets only
/// processes of the same user do.
class SharedMemory {
 public:
  /// Makes memory that is zero. All of it is reserved, so that a lack of memory shows here and not
  /// in the middle of an exchange. Throws CommError.
  static SharedMemory create(std::size_t bytes);
  /// Maps memory that another process has made and not hidden yet; `address` is what its address()
  /// returned. Throws CommError.
  static SharedMemory open(const std::string& address);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

  /// Returns a text for `open` in processes that see the same /proc. Only for memory that was
  /// created and is not hidden.
  std::string address() const;
  /// Ends the time in which others can open the memory. Those who have mapped it keep it.
  void hide();

 private:
  SharedMemory(int file, std::size_t bytes) : bytes_(bytes), file_(file) {}
  void map();

  std::byte* data_ = nullptr;
  std::size_t bytes_;
  FileDescriptor file_;
};

}  // namespace syncbn
