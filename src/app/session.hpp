// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "app/args.hpp"
#include "app/command.hpp"

namespace syncbn::app {

/// A Session is MPI from its initialization to its end; in a build without MPI, a single process. A
/// program has one. The process ends if a rank does not come to the initialization, or to the end,
/// within the deadlines. Destroy the worlds made from it first. After a world's
/// `survivors`, the session's ranks are those that are left.
class Session {
 public:
  explicit Session(Deadlines deadlines);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  int rank() const;
  int size() const;
  /// Returns the MPI's name, "Open MPI v4.1.4"; "" in a build without one. It takes no session.
  static std::string library();

  /// Collective. Makes the world of all processes.
  World world(const ExchangeOptions& options) const;

  /// Collective. Returns whether all ranks give the same word; none if one does not call within
  /// `patience`, after which only `abort` may be called. It does not use the worlds, and works
  /// after they have failed.
  std::optional<bool> all_same(std::uint64_t word, std::chrono::milliseconds patience) const;

  /// Says which ranks did not call when `all_same` returned none.
  std::string silence() const;

  /// Ends the processes of all ranks, wherever they are, with this exit code.
  [[noreturn]] void abort(int code) const;

 private:
  Survivors survivors(const ExchangeOptions& options, const CommError& failure) const;
};

}  // namespace syncbn::app
