// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/meeting.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <sched.h>
#include <unistd.h>
#include <utility>

#include "syncbn/error.hpp"

#include "comm/group/deadline_clock.hpp"
#include "comm/group/deadlines.hpp"

namespace syncbn::comm::mpi {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int first = 0;

// Kinds of messages from a member to the first ...
constexpr char brings = 'b';   // its record
constexpr char refuses = 'r';  // why it will send no record
// ... and from the first to a member.
constexpr char waits = 'w';      // names of those that the first waits for
constexpr char fails = 'f';      // why there will be no records
constexpr char part = 'p';       // part of the packed records
constexpr char last_part = 'l';  // the last such part

/// Spaces out polls, as ranks may be many, or come much later: yields 100 times, then sleeps, from
/// 10 us up to 1 ms.
class Pace {
 public:
  void turn() {
    constexpr int quick_turns = 100;
    constexpr int longest = 1000;  // us
    if (turns_ < quick_turns) {
      ++turns_;
      sched_yield();
      return;
    }
    usleep(static_cast<useconds_t>(sleep_));
    sleep_ = std::min(sleep_ + sleep_ / 2, longest);
  }

 private:
  int turns_ = 0;
  int sleep_ = 10;  ///< us
};

/// Joins the records, each behind its length in 32 bits.
std::string packed(const std::vector<std::string>& records) {
  std::string bytes;
  for (const std::string& record : records) {
    const auto size = static_cast<std::uint32_t>(record.size());
    bytes.append(reinterpret_cast<const char*>(&size), sizeof size).append(record);
  }
  return bytes;
}

std::vector<std::string> unpacked(std::string_view bytes) {
  std::vector<std::string> records;
  while (!bytes.empty()) {
    std::uint32_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof size);
    records.emplace_back(bytes.substr(sizeof size, size));
    bytes.remove_prefix(sizeof size + size);
  }
  return records;
}

}  // namespace

/// Waits for other members, and reports and fails at the deadlines.
class Meeting::Wait {
 public:
  explicit Wait(Meeting& meeting)
      : meeting_(meeting),
        clock_(meeting.deadlines_),
        own_name_(meeting.members_.name({meeting.members_.rank()}) +
                  (meeting.what_.empty() ? "" : ", ") + meeting.what_) {}

  /// Looks at the clock and pauses, to be called between polls for messages. `missing` returns the
  /// names of those that have not come. Throws CommError at the deadline.
  template <class Missing>
  void turn(Missing missing) {
    const auto late = [&](std::chrono::milliseconds deadline) {
      return missing() + " did not come within " + in_seconds(deadline);
    };
    clock_.look([&](auto waited) { report(own_name_ + ": " + late(waited)); },
                [&](auto waited) { meeting_.fail(late(waited)); });
    pace_.turn();
  }
  /// Polls quickly again, because somebody has come and the next may be near.
  void hurry() { pace_ = Pace(); }

  Clock::duration waited() const { return clock_.waited(); }

  void end() const {
    if (clock_.is_reported()) {
      report_end_of_wait(own_name_, clock_.waited());
    }
  }

 private:
  Meeting& meeting_;
  DeadlineClock clock_;
  std::string own_name_;
  Pace pace_;
};

Meeting::Meeting(Members& members, std::string what, Deadlines deadlines, Kind ask, Kind answer)
    : members_(members),
      what_(std::move(what)),
      deadlines_(deadlines),
      asked_(members, ask),
      answers_(members, answer) {}

std::vector<std::string> Meeting::exchange(std::string_view record) {
  return members_.rank() == first ? collect(record) : ask(record);
}

// Runs on the first member: gathers the records and sends them to all.
std::vector<std::string> Meeting::collect(std::string_view own) {
  std::vector<std::optional<std::string>> came(static_cast<std::size_t>(members_.size()));
  came[first] = own;
  const auto missing = [&] {
    std::vector<int> members;
    for (int member = 0; member < members_.size(); ++member) {
      if (!came[static_cast<std::size_t>(member)]) {
        members.push_back(member);
      }
    }
    return members;
  };
  std::vector<std::string> told(came.size());  // by member: the names that it was told last
  Wait wait(*this);
  // Members that came before the first hear at once that it is here. Others hear well before their
  // deadlines to report.
  Clock::duration next_word{0};
  while (true) {
    while (const std::optional<Notices::Notice> notice = asked_.next()) {
      if (notice->about == refuses) {
        fail(notice->text);
      }
      came[static_cast<std::size_t>(notice->from)] = notice->text;
      wait.hurry();
    }
    if (std::ranges::all_of(came, [](const auto& record) { return record.has_value(); })) {
      break;
    }
    if (wait.waited() >= next_word) {
      next_word = wait.waited() + std::min(deadlines_.report, deadlines_.fail) / 4;
      const std::string names = members_.name(missing());
      for (int member = 1; member < members_.size(); ++member) {
        const auto place = static_cast<std::size_t>(member);
        if (came[place] && told[place] != names) {
          told[place] = names;
          answers_.tell(member, waits, names);
        }
      }
    }
    answers_.all_sent();
    wait.turn([&] { return members_.name(missing()); });
  }
  wait.end();
  std::vector<std::string> records;
  for (const std::optional<std::string>& record : came) {
    records.push_back(*record);
  }
  send_to_all(records);
  return records;
}

// Runs on all other members: sends the record and waits for all records.
std::vector<std::string> Meeting::ask(std::string_view own) {
  asked_.tell(first, brings, own);
  std::string missing = members_.name({first});
  std::string records;
  Wait wait(*this);
  while (true) {
    while (const std::optional<Notices::Notice> notice = answers_.next()) {
      switch (notice->about) {
        case waits:
          missing = notice->text;
          break;
        case fails:
          members_.abandon();
          throw CommError(about(notice->text));
        case part:
          records += notice->text;
          break;
        case last_part:
          wait.end();
          return unpacked(records + notice->text);
        default:
          break;
      }
    }
    asked_.all_sent();
    wait.turn([&] { return missing; });
  }
}

void Meeting::send_to_all(const std::vector<std::string>& records) {
  const std::string bytes = packed(records);
  for (int member = 1; member < members_.size(); ++member) {
    std::string_view rest = bytes;
    while (rest.size() > longest) {
      answers_.tell(member, part, rest.substr(0, longest));
      rest.remove_prefix(longest);
    }
    answers_.tell(member, last_part, rest);
  }
  push(deadlines_.fail);  // a member that does not take it is missing in the next wait
}

void Meeting::push(std::chrono::milliseconds at_most) {
  const Clock::time_point end = Clock::now() + at_most;
  Pace pace;
  while (Clock::now() < end) {
    const bool asked = asked_.all_sent();
    if (answers_.all_sent() && asked) {
      return;
    }
    pace.turn();
  }
}

void Meeting::refuse(std::string_view why) {
  fail(members_.name({members_.rank()}) + ": " + std::string(why));
}

void Meeting::fail(const std::string& why) {
  if (members_.rank() == first) {
    answers_.tell_all(fails, why);
  } else {
    asked_.tell(first, refuses, why);
  }
  members_.abandon();
  push(std::min(deadlines_.fail, std::chrono::milliseconds(100)));
  throw CommError(about(why));
}

std::string Meeting::about(const std::string& why) const {
  return what_.empty() ? why : what_ + ": " + why;
}

}  // namespace syncbn::comm::mpi
