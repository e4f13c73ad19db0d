// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"

namespace syncbn::test {

/// How a process of a test ended.
struct Ended {
  int status;          ///< as waitpid returns it
  std::string answer;  ///< why it failed or was skipped, "" if neither
};

using Body = std::function<void(const Communicator& ranks)>;

/// Runs `body` in new processes, one for each rank, which this one has to be free of CUDA and of
/// threads for. The ranks' communicator needs no MPI. `prepare` comes first, with the rank; if it
/// returns why not, `body` is left out.
std::vector<Ended> run_processes(int size, const std::function<std::string(int rank)>& prepare,
                                 const Body& body, Deadlines deadlines);

/// Tells whether a process was killed.
bool was_killed(const Ended& process);

/// Fails the test unless all ended well. If one answers "SKIPPED: why", the test is skipped.
void expect_success(const std::vector<Ended>& processes);

}  // namespace syncbn::test
