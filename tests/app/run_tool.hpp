// SPDX-License-Identifier: Apache-2.0
#pragma once

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

/// What mpirun is started with: "env OMPI_...=1 mpirun -n".
std::string mpirun();

std::string read_file(const std::filesystem::path& file);

}  // namespace syncbn::test
