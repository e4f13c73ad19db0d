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

/// Those processes that are left when some are lost.
struct Survivors {
  Communicator communicator;
  std::vector<int> lost;  ///< ranks as they were numbered at the start
  /// To be let go of when all that held a communicator has been made anew: MPI may be caught for
  /// good in doing so, if one more process is lost.
  std::shared_ptr<LastResort> last_resort;
};

/// The processes this program was started with.
struct World {
  Communicator communicator;
  std::string
      transport;  ///< for `info`: "Open MPI 4.1.4, MPI_THREAD_FUNNELED", or "single process"

  /// Called where an exchange failed. Collective over the processes that are left. Throws `failure`
  /// if none is lost, or if not all come within the timeout. Empty if a lost process ends the
  /// others,
  std::function<Survivors(const CommError& failure)> survivors;
  std::string why_inelastic;  ///< for this reason, which says what to do about it
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
