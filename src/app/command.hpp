// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "syncbn/communicator.hpp"

namespace syncbn::app {

/// The processes this program was started with.
struct World {
  Communicator communicator;
  std::string
      transport;  ///< for `info`: "Open MPI 4.1.4, MPI_THREAD_FUNNELED", or "single process"
};

using Arguments = std::vector<std::string>;

/// One subcommand. Every rank runs it with the same arguments.
struct Command {
  const char* name;
  const char* summary;  ///< one line for `syncbn --help`
  /// `arguments` are those behind the subcommand's name. Returns the exit code, the same on all
  /// ranks; throws UsageError for what the user got wrong on the command line (exit code 2) and
  /// syncbn::Error for what went wrong later (exit code 1).
  int (*run)(const Arguments& arguments, const World& world);
};

int run_train(const Arguments& arguments, const World& world);
int run_check(const Arguments& arguments, const World& world);
int run_bench(const Arguments& arguments, const World& world);
int run_info(const Arguments& arguments, const World& world);

}  // namespace syncbn::app
