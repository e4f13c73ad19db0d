// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <mpi.h>

#include "comm/mpi/members.hpp"

namespace syncbn::comm::mpi {

/// Sends short texts between members. Sending waits for nobody, and nobody has to listen. But the
/// communicator must not be freed by a rank to which notices may be on their way: Open MPI 4.1 then
/// gives its number to another and delivers them there, which was seen to hang MPI_Comm_idup.
class Notices {
 public:
  /// `members` must outlive the notices.
  Notices(const Members& members, Kind kind) : members_(members), tag_(members.tag(kind)) {}
  Notices(const Notices&) = delete;
  Notices& operator=(const Notices&) = delete;
  ~Notices();

  static constexpr std::size_t longest = 2000;  ///< [B], sent even if not received

  /// Sends a text to every other member. `about` says what kind of text it is; both together are
  /// cut to `longest` bytes.
  void tell_all(char about, std::string_view text) noexcept;
  void tell(int member, char about, std::string_view text) noexcept;

  struct Notice {
    int from;  ///< a member
    char about;
    std::string text;
  };
  std::optional<Notice> next();

  /// Lets MPI send, which it may do only while it is called, and returns whether it has sent all
  /// texts.
  bool all_sent();

 private:
  struct Letter {
    std::unique_ptr<std::string> text;
    MPI_Request sending = MPI_REQUEST_NULL;
  };

  const Members& members_;
  int tag_;
  std::list<Letter> letters_;
};

}  // namespace syncbn::comm::mpi
