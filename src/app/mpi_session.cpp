// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mpi.h>

#include <fmt/format.h>

#include "syncbn/error.hpp"
#include "syncbn/mpi.hpp"

#include "app/last_resort.hpp"
#include "app/mpi_calls.hpp"
#include "app/mpi_survivors.hpp"
#include "app/print.hpp"
#include "app/session.hpp"
#include "app/shared_memory_warning.hpp"
#include "comm/mpi/meeting.hpp"
#include "comm/mpi/members.hpp"

namespace syncbn::app {
namespace {

using comm::mpi::Meeting;
using comm::mpi::Members;

// These are the ranks that are left, at first all of MPI_COMM_WORLD. They meet
// (comm/mpi/meeting.hpp) on this communicator, on which the tool sends nothing else: the library's
// are duplicates.
std::optional<Members> members;
bool all_are_left = true;
std::string who_was_silent;
Deadlines deadlines;  ///< for the start and the end of the program

/// Makes members of `comm` without owning it: MPI frees the communicator.
Members members_of(MPI_Comm comm) {
  comm::mpi::OwnedComm borrowed(comm);
  borrowed.abandon();
  return Members(std::move(borrowed));
}

/// Returns "rank 1" as the launcher numbers it, for use before MPI does.
std::string rank_of_launcher() {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (const char* rank = std::getenv(variable)) {
      return std::string("rank ") + rank;
    }
  }
  return "a rank";
}

/// Makes a LastResort for a call of MPI that waits for all ranks. Such a call may take longer than
/// an exchange, as MPI_Init waits for a launcher to start the ranks, so the limit is at least 30 s.
/// Rank 0 warns at the report deadline, but not before 10 s. `why` says what may keep a rank.
LastResort for_call(std::string_view call, const std::string& rank, std::string_view why) {
  using std::chrono::milliseconds;
  const auto limit = std::max<milliseconds>(deadlines.fail, std::chrono::seconds(30));
  const auto first = std::max<milliseconds>(deadlines.report, default_report);
  const auto late = [&](milliseconds waited) {
    return fmt::format("syncbn: {}: {} was not done within {} s", rank, call,
                       std::chrono::duration<double>(waited).count());
  };
  return {
      limit,
      fmt::format("{} ({}; MPI does not tell which). Give --timeout more, if they take so long.",
                  late(limit), why),
      rank == "rank 0" ? first : limit, late(first)};
}

std::string library_name() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> buffer{};
  int length = 0;
  MPI_Get_library_version(buffer.data(), &length);
  const std::string_view whole(buffer.data(), static_cast<std::size_t>(length));
  // Examples: "Open MPI v4.1.4, package: ...", "MPICH Version:      4.0.2\nMPICH Release date: ..."
  std::string name;
  for (const char c : whole.substr(0, whole.find_first_of(",\n"))) {
    const bool blank = c == ' ' || c == '\t' || c == ':';
    if (!blank) {
      name += c;
    } else if (!name.empty() && name.back() != ' ') {
      name += ' ';
    }
  }
  return name;
}

const char* level_name(int level) {
  switch (level) {
    case MPI_THREAD_SINGLE:
      return "single";
    case MPI_THREAD_FUNNELED:
      return "funneled";
    case MPI_THREAD_SERIALIZED:
      return "serialized";
    default:
      return "multiple";
  }
}

std::string library_and_level() {
  int major = 0;
  int minor = 0;
  int level = MPI_THREAD_SINGLE;
  MPI_Get_version(&major, &minor);
  MPI_Query_thread(&level);
  return fmt::format("{} (MPI {}.{}, thread level {})", library_name(), major, minor,
                     level_name(level));
}

/// Collective over all ranks. Makes the library's communicator. If a rank is missing while MPI
/// duplicates MPI_COMM_WORLD, MPI does not tell which, so a meeting finds out.
Communicator communicator(Deadlines of_exchange, MpiExchange exchange) {
  try {
    return mpi_communicator(MPI_COMM_WORLD, of_exchange, exchange);
  } catch (const CommError& error) {
    const std::string problem = error.what();
    if (problem.find("did not come") != problem.npos) {
      throw;
    }
    try {
      constexpr std::chrono::milliseconds patience = std::chrono::seconds(2);
      Meeting(*members, "when asked who is there", {patience, patience}).exchange("");
    } catch (const CommError& silence) {
      throw CommError(problem + "\n  " + silence.what());
    }
    throw;
  }
}

MpiExchange exchange_of(const ExchangeOptions& options) {
  if (!options.summation || *options.summation == Summation::nccl) {
    return default_mpi_exchange();
  }
  return *options.summation == Summation::mpi ? MpiExchange::mpi : MpiExchange::builtin;
}

}  // namespace

Session::Session(Deadlines at_start_and_end) {
  deadlines = at_start_and_end;
  const auto environment = [](const char* name) { return std::getenv(name); };
  if (const auto warning = shared_memory_warning("/", environment, library_name())) {
    print_error(fmt::format("syncbn: {}\n", *warning));
  }
  int provided = MPI_THREAD_SINGLE;
  {
    const LastResort last_resort =
        for_call("MPI_Init", rank_of_launcher(), "a rank is stuck, or was not started");
    // One thread makes all calls while OpenMP's work beside it.
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  }
  set_report_handler([](std::string_view line) { print_error(fmt::format("syncbn: {}\n", line)); });
  members.emplace(members_of(MPI_COMM_WORLD));
  // MPI may report a lost rank on this communicator too; that must not abort the program.
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
}

Session::~Session() {
  if (!all_are_left) {
    end_without_the_lost(members->comm());
    return;
  }
  try {
    // A rank that failed alone meets the others too, with another word: then they meet once more.
    const std::string here = "end";
    std::vector<std::string> all;
    do {
      all = Meeting(*members, "the end of the program", deadlines).exchange(here);
    } while (std::ranges::count(all, here) != size());
  } catch (const std::exception& error) {
    print_error(fmt::format("syncbn: rank {}: {}\n", rank(), error.what()));
    abort(EXIT_FAILURE);
  }
  const LastResort last_resort =
      for_call("MPI_Finalize", fmt::format("rank {}", rank()), "a rank is stuck");
  MPI_Finalize();
}

int Session::rank() const {
  return members->rank();
}

int Session::size() const {
  return members->size();
}

std::string Session::library() {
  return library_name();
}

World Session::world(const ExchangeOptions& options) const {
  const MpiExchange exchange = exchange_of(options);
  World world{communicator(options.deadlines, exchange),
              fmt::format("{} over {}", exchange == MpiExchange::mpi ? "mpi" : "builtin",
                          library_and_level()),
              library_name(),
              nullptr,
              why_inelastic(),
              make_plain_mpi};
  if (world.why_inelastic.empty()) {
    world.survivors = [this, options](const CommError& failure) {
      return survivors(options, failure);
    };
  }
  return world;
}

Survivors Session::survivors(const ExchangeOptions& options, const CommError& failure) const {
  // Open MPI 5.0.7 never comes back from MPIX_Comm_shrink if a rank dies in the middle of it.
  const std::chrono::milliseconds limit = 2 * options.deadlines.fail;  // the others may come later
  auto last_resort = std::make_shared<LastResort>(
      limit, fmt::format("syncbn: {}\n  The ranks that are left have not set out anew within {} s "
                         "(is one more lost?). Resume from the last checkpoint.",
                         failure.what(), std::chrono::duration<double>(limit).count()));
  std::vector<int> lost;
  for (;;) {
    const std::optional<Left> left = leave_the_lost(members->comm(), options.deadlines.fail);
    if (!left) {
      throw failure;
    }
    members.emplace(members_of(left->comm));
    all_are_left = false;
    lost.insert(lost.end(), left->lost.begin(), left->lost.end());
    try {
      return {mpi_communicator(left->comm, options.deadlines, exchange_of(options)), lost,
              std::move(last_resort)};
    } catch (const CommError&) {  // one more is lost, or none is: leave_the_lost tells
    }
  }
}

std::optional<bool> Session::all_same(std::uint64_t word,
                                      std::chrono::milliseconds patience) const {
  const std::string own(reinterpret_cast<const char*>(&word), sizeof word);
  // A wait for the whole timeout is also reported.
  const auto report = patience < deadlines.fail ? patience : deadlines.report;
  try {
    const std::vector<std::string> all = Meeting(*members, "", {patience, report}).exchange(own);
    return std::ranges::count(all, own) == size();
  } catch (const std::exception& error) {  // a rank is missing, or lost
    who_was_silent = error.what();
    return std::nullopt;
  }
}

std::string Session::silence() const {
  return who_was_silent;
}

void Session::abort(int code) const {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace syncbn::app
