// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "app/args.hpp"
#include "app/command.hpp"

namespace syncbn::app {

/// MPI from its initialization to its end; in a build without MPI a single process. One a program.
/// Where a rank does not come to either by the deadline of the command line, the process ends.
/// The worlds made from it must be gone before it is. After a world's `survivors` its ranks are
/// those that are left.
class Session {
 public:
  Session(int& argc, char**& argv);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  int rank() const;
  int size() const;

  /// Collective. All processes.
  World world(const ExchangeOptions& options) const;

  /// Collective. Whether all ranks give the same word; none if one does not call within `patience`,
  /// then `abort` is the only thing left to do. Independent of the worlds: works after their
  /// failure.
  std::optional<bool> all_same(std::uint64_t word, std::chrono::milliseconds patience) const;

  /// Who did not, when `all_same` had no answer.
  std::string silence() const;

  /// Ends the processes of all ranks, wherever they are, with this exit code.
  [[noreturn]] void abort(int code) const;

 private:
  Survivors survivors(const ExchangeOptions& options, const CommError& failure) const;
};

}  // namespace syncbn::app
