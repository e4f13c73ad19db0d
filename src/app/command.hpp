// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "app/args.hpp"
#include "app/last_resort.hpp"
#include "app/plain_mpi.hpp"

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
  /// for `info`: "builtin over Open MPI v4.1.4 (MPI 3.1, thread level funneled)"
  std::string transport;
  std::string library;  ///< the MPI: "Open MPI v4.1.4"; "" in a build without one

  /// Finds out, after an exchange failed, which processes are left. Collective over these. Throws
  /// `failure` if none is lost, or if not all come within the timeout. Empty if the others cannot
  /// go on without a lost process.
  std::function<Survivors(const CommError& failure)> survivors;
  std::string why_inelastic;  ///< why `survivors` is empty, and what to do about it; else empty

  /// Collective over the world. Makes MPI's own calls over the ranks of one color. Empty in a build
  /// without MPI.
  std::function<std::unique_ptr<PlainMpi>(int color)> plain_mpi;
};

/// A Command is one subcommand. Its constructor declares the options, which are parsed before there
/// is a world. Every rank runs it with the same arguments.
class Command {
 public:
  virtual ~Command() = default;
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  CommandLine& command_line() { return command_line_; }
  const CommandLine& command_line() const { return command_line_; }

  /// Runs the subcommand, once its command line has been parsed. Returns the exit code, the same on
  /// all ranks; throws UsageError for what the user got wrong on the command line (exit code 2) and
  /// syncbn::Error for what went wrong later (exit code 1).
  virtual int run(const World& world) = 0;

  /// Returns whether it also runs as one of several processes that do not know of each other, to
  /// say so; for other commands that is an error.
  virtual bool runs_among_strangers() const { return false; }

  /// Says what to do where ranks do not answer each other at the start. Local. `library` is the
  /// MPI's name.
  virtual std::string advice_on_silence([[maybe_unused]] const std::string& library) const {
    return "`syncbn doctor` in place of this command tells which networks each rank has.";
  }

 protected:
  /// The arguments are CommandLine's.
  Command(std::string_view name, std::string_view purpose, RunsOn devices = RunsOn::cpu)
      : command_line_(name, purpose, devices) {}

 private:
  CommandLine command_line_;
};

/// Both throw NotConfigured in a build without oneDNN.
std::unique_ptr<Command> make_train();
std::unique_ptr<Command> make_study();
std::unique_ptr<Command> make_check();
std::unique_ptr<Command> make_bench();
std::unique_ptr<Command> make_scale();
std::unique_ptr<Command> make_info();
std::unique_ptr<Command> make_doctor();

}  // namespace syncbn::app
