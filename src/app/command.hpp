// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "app/last_resort.hpp"

namespace syncbn::app {

/// Survivors are the processes that are left when some are lost.
struct Survivors {
  Communicator communicator;
  std::vector<int> lost;  ///< the lost ranks, as numbered at the start
  /// Ends this process if recovery takes too long: MPI may never return from it if one more process
  /// is lost. Release it once all objects that held the old communicator have been made anew.
  std::shared_ptr<LastResort> last_resort;
};

/// A World holds the processes this program was started with.
struct World {
  Communicator communicator;
  std::string
      transport;  ///< for `info`: "Open MPI 4.1.4, MPI_THREAD_FUNNELED", or "single process"

  /// Finds out, after an exchange failed, which processes are left. Collective over these. Throws
  /// `failure` if none is lost, or if not all come within the timeout. Empty if the others cannot
  /// go on without a lost process.
  std::function<Survivors(const CommError& failure)> survivors;
  std::string why_inelastic;  ///< why `survivors` is empty, and what to do about it; else empty
};

using Arguments = std::vector<std::string>;

/// A Command is one subcommand. Every rank runs it with the same arguments.
struct Command {
  const char* name;
  const char* summary;  ///< one line for `syncbn --help`
  /// Runs the subcommand. `arguments` are those behind its name. Returns the exit code, the same on
  /// all ranks; throws UsageError for what the user got wrong on the command line (exit code 2) and
  /// syncbn::Error for what went wrong later (exit code 1).
  int (*run)(const Arguments& arguments, const World& world);
};

int run_train(const Arguments& arguments, const World& world);
int run_check(const Arguments& arguments, const World& world);
int run_bench(const Arguments& arguments, const World& world);
int run_info(const Arguments& arguments, const World& world);

}  // namespace syncbn::app
