// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace syncbn::test {

struct Ended {
  int code = -1;    ///< of the process; 128 + signal if one ended it
  std::string out;  ///< standard output
  std::string err;  ///< standard error
  double seconds = 0;
};

/// Runs `syncbn` with these arguments, words for a shell, as one process without mpirun.
Ended run_tool(const std::string& arguments);

/// With mpirun: one rank, or `ranks` of them.
Ended run_ranks(int ranks, const std::string& arguments);

/// A shell command to its end. Fails the test if that takes more than a minute.
Ended run_shell(const std::string& command);

/// A shell's command to have at most so many bytes of memory in what follows: "ulimit -v 1000; ".
/// In a build with a sanitizer, which takes terabytes of addresses, "".
std::string at_most_memory(std::size_t bytes);

/// What mpirun is started with: "env OMPI_...=1 mpirun -n".
std::string mpirun();

std::string read_file(const std::filesystem::path& file);

}  // namespace syncbn::test
