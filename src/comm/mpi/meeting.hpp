// SPDX-License-Identifier: Apache-2.0
#pragma once

// Members of a group wait for each other while they set something up, and learn what each brings:
// an all-gather that has a deadline and knows who is missing.
//
//   each    sends its record to the first
//   first   receives them, and tells those who have come whom it still waits for
//           sends all records to all, or why there are none
//
// Two short messages per member, and the table of records to each.

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "syncbn/communicator.hpp"

#include "comm/mpi/members.hpp"
#include "comm/mpi/notices.hpp"

namespace syncbn::comm::mpi {

class Meeting {
 public:
  /// `what` it is for, in messages: "making a communicator", or "". `ask` and `answer` are the
  /// kinds of its messages. `members` outlive it.
  Meeting(Members& members, std::string what, Deadlines deadlines, Kind ask = Kind::gather,
          Kind answer = Kind::answer);

  /// Collective over the members. The record of each, which has at most `longest` bytes.
  ///
  /// Throws CommError on all, with the same text, if one does not come by the deadline, or refuses.
  /// The communicator is left to MPI then.
  std::vector<std::string> exchange(std::string_view record);
  static constexpr std::size_t longest = Notices::longest - 1;

  /// Instead: throws CommError on all, with the reason.
  [[noreturn]] void refuse(std::string_view why);

 private:
  class Wait;

  std::vector<std::string> collect(std::string_view own);
  std::vector<std::string> ask(std::string_view own);
  void send_to_all(const std::vector<std::string>& records);
  std::string about(const std::string& why) const;
  /// Lets MPI send what it has not yet, for at most so long.
  void push(std::chrono::milliseconds at_most);
  [[noreturn]] void fail(const std::string& why);

  Members& members_;
  std::string what_;
  Deadlines deadlines_;
  Notices asked_;
  Notices answers_;
};

}  // namespace syncbn::comm::mpi
