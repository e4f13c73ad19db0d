// SPDX-License-Identifier: Apache-2.0
#include "comm/processes.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "syncbn/error.hpp"

#include "comm/group/group.hpp"
#include "comm/host/processes.hpp"
#include "comm/node/areas.hpp"

namespace syncbn::test {
namespace {

using comm::node::Areas;

/// What the processes have in common from the start.
struct Common {
  explicit Common(int size) : areas(Areas::create(static_cast<std::size_t>(size))) {
    void* memory = mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      throw std::system_error(errno, std::generic_category(), "memory for all processes");
    }
    introduced = new (memory) std::atomic<int>(0);
  }
  Common(const Common&) = delete;
  Common& operator=(const Common&) = delete;
  ~Common() { munmap(introduced, sizeof(std::atomic<int>)); }

  /// Waits until each process has introduced its area.
  Communicator communicator(int rank, Deadlines deadlines) {
    areas->introduce(static_cast<std::size_t>(rank));
    ++*introduced;
    const auto end = std::chrono::steady_clock::now() + deadlines.fail;
    while (*introduced < static_cast<int>(areas->count())) {
      if (std::chrono::steady_clock::now() > end) {
        throw CommError("not all processes have introduced themselves");
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return comm::communicator_of_process(areas, rank, deadlines, number);
  }

  std::shared_ptr<Areas> areas;
  std::uint64_t number = comm::Group::new_number();
  std::atomic<int>* introduced = nullptr;
};

/// What one process does. Returns its answer.
template <class Act>
std::string answer_of(const Act& act) {
  try {
    const std::string why = act();
    return why.empty() && testing::Test::HasFailure() ? "failed, see above" : why;
  } catch (const std::exception& error) {
    return std::string("threw: ") + error.what();
  }
}

/// A process, and the end of a pipe from which its answer comes.
struct Process {
  pid_t id;
  std::FILE* answer;
};

template <class Act>
Process start(const Act& act) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) {
    throw std::system_error(errno, std::generic_category(), "a pipe");
  }
  std::fflush(nullptr);
  const pid_t id = fork();
  if (id < 0) {
    throw std::system_error(errno, std::generic_category(), "a process");
  }
  if (id == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const std::string answer = answer_of(act);
    std::fflush(nullptr);
    const auto length = static_cast<ssize_t>(answer.size());
    _exit(write(ends[1], answer.data(), answer.size()) == length ? 0 : 1);
  }
  close(ends[1]);
  return {id, fdopen(ends[0], "r")};
}

Ended wait_for_end(const Process& process) {
  Ended ended{};
  for (int c = std::fgetc(process.answer); c != EOF; c = std::fgetc(process.answer)) {
    ended.answer += static_cast<char>(c);
  }
  std::fclose(process.answer);
  waitpid(process.id, &ended.status, 0);
  return ended;
}

}  // namespace

std::vector<Ended> run_processes(int size, const std::function<std::string(int rank)>& prepare,
                                 const Body& body, Deadlines deadlines) {
  Common common(size);
  std::vector<Process> processes;
  for (int rank = 0; rank < size; ++rank) {
    processes.push_back(start([&] {
      std::string why_not = prepare(rank);
      if (why_not.empty()) {
        body(common.communicator(rank, deadlines));
      }
      return why_not;
    }));
  }
  std::vector<Ended> ended;
  for (const Process& process : processes) {
    ended.push_back(wait_for_end(process));
  }
  return ended;
}

bool was_killed(const Ended& process) {
  return WIFSIGNALED(process.status) && WTERMSIG(process.status) == SIGKILL;
}

void expect_success(const std::vector<Ended>& processes) {
  std::string skipped;
  for (std::size_t rank = 0; rank < processes.size(); ++rank) {
    const auto& [status, answer] = processes[rank];
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
        << "rank " << rank << " ended with status " << status;
    if (answer.starts_with("SKIPPED")) {
      skipped = answer;
    } else {
      EXPECT_EQ(answer, "") << "of rank " << rank;
    }
  }
  if (!skipped.empty()) {
    GTEST_SKIP() << skipped;
  }
}

}  // namespace syncbn::test
