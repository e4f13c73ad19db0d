// SPDX-License-Identifier: Apache-2.0
#pragma once

// A meeting is an all-gather of short records that has a deadline and knows who is missing. Members
// of a group hold one while they set something up.
//
//   each    sends its record to the first member
//   first   receives them, and tells those who have come whom it still waits for
//           sends all records to all, or why there are none
//
// It costs two short messages per member, and the table of all records to each.

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
  /// `what` says in error messages what the meeting is for: "making a communicator", or "". `ask`
  /// and `answer` are the kinds of the messages to the first member and from it. `members` must
  /// outlive the meeting.
  Meeting(Members& members, std::string what, Deadlines deadlines, Kind ask = Kind::gather,
          Kind answer = Kind::answer);

  /// Collective over the members. Returns the record of each, in their order. A record has at most
  /// `longest` bytes.
  ///
  /// Throws CommError on all members, with the same text, if one does not come by the deadline, or
  /// refuses. The communicator is then never freed.
  std::vector<std::string> exchange(std::string_view record);
  static constexpr std::size_t longest = Notices::longest - 1;

  /// Refuses to take part, instead of calling `exchange`: throws CommError on all, with the reason.
  [[noreturn]] void refuse(std::string_view why);

 private:
  class Wait;

  std::vector<std::string> collect(std::string_view own);
  std::vector<std::string> ask(std::string_view own);
  void send_to_all(const std::vector<std::string>& records);
  std::string about(const std::string& why) const;
  /// Lets MPI send what it has not sent yet, for at most this long.
  void push(std::chrono::milliseconds at_most);
  [[noreturn]] void fail(const std::string& why);

  Members& members_;
  std::string what_;
  Deadlines deadlines_;
  Notices asked_;
  Notices answers_;
};

}  // namespace syncbn::comm::mpi
