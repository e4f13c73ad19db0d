// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "syncbn/communicator.hpp"

#include "comm/group/deadline_clock.hpp"

namespace syncbn::comm {

/// Work that goes on elsewhere, such as on a device, piece by piece, while possibly no thread waits
/// for it. The watchdog calls these functions from threads of its own.
class Watched {
 public:
  struct Progress {
    std::uint64_t started = 0;   ///< number of pieces started so far
    std::uint64_t finished = 0;  ///< number of pieces finished so far
  };

  virtual ~Watched() = default;

  virtual Progress progress() = 0;
  /// Returns why the work will not go on; "" if nothing is known.
  virtual std::string trouble() = 0;
  /// Reports that a piece has taken longer than Deadlines::report. Called once for each.
  virtual void report_late(std::chrono::milliseconds waited) noexcept = 0;
  /// Ends the work, because a piece has taken longer than Deadlines::fail or there is trouble.
  /// Called once, in a thread of its own, since it may have to wait for other work that has failed.
  virtual void fail(std::string_view why) noexcept = 0;
};

/// Runs a thread that looks at all that is watched once every `interval`.
class Watchdog {
 public:
  explicit Watchdog(std::chrono::milliseconds interval);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

  /// Returns the process's watchdog, which looks every 100 ms. It exists while somebody holds it.
  static std::shared_ptr<Watchdog> of_process();

 private:
  friend class Watch;
  using Clock = std::chrono::steady_clock;

  struct Entry {
    Watched* watched;
    DeadlineClock clock;  ///< how long the same piece has been under way
    Watched::Progress seen = {};
    bool failed = false;
    std::thread failing = {};
  };

  void run();
  static void look_at(Entry& entry);

  const std::chrono::milliseconds interval_;
  std::mutex mutex_;
  std::condition_variable ending_;
  bool ends_ = false;
  std::list<Entry> entries_;
  std::thread thread_;  ///< last, as it uses the members above
};

/// Makes the watchdog watch `watched` while this object exists. The destructor waits until no
/// function of `watched` is running.
class Watch {
 public:
  Watch(std::shared_ptr<Watchdog> watchdog, Watched& watched, Deadlines deadlines);
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch();

 private:
  std::shared_ptr<Watchdog> watchdog_;
  std::list<Watchdog::Entry>::iterator entry_;
};

}  // namespace syncbn::comm
