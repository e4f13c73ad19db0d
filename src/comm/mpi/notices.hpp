// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <mpi.h>

namespace syncbn::comm::mpi {

/// What ranks tell each other when something takes too long. Sending waits for nobody, and nobody
/// has to listen. But the communicator must not be freed by a rank to which notices may be on their
/// way: Open MPI 4.1 then gives its number to another and delivers them there, which was seen to
/// hang MPI_Comm_idup.
class Notices {
 public:
  /// On this communicator, which outlives it, under a tag of their own.
  explicit Notices(MPI_Comm comm);
  Notices(const Notices&) = delete;
  Notices& operator=(const Notices&) = delete;
  ~Notices();

  static constexpr int tag = 1 << 14;           ///< others are to use lower ones
  static constexpr std::size_t longest = 2000;  ///< such that it is sent whether received or not

  /// To every other rank; what is beyond `longest` bytes is cut off.
  void tell_all(char kind, std::string_view text) noexcept;

  struct Notice {
    int from;
    char kind;
    std::string text;
  };
  std::optional<Notice> next();

 private:
  struct Letter {
    std::unique_ptr<std::string> text;
    MPI_Request sending = MPI_REQUEST_NULL;
  };

  MPI_Comm comm_;
  std::list<Letter> letters_;
};

}  // namespace syncbn::comm::mpi
