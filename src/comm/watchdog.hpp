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

#include "comm/deadline_clock.hpp"

namespace syncbn::comm {

/// Work that goes on elsewhere, piece by piece, and that nobody may be waiting for. Its functions
/// are called from threads of the watchdog's.
class Watched {
 public:
  struct Progress {
    std::uint64_t started = 0;   ///< pieces
    std::uint64_t finished = 0;  ///< of them
  };

  virtual ~Watched() = default;

  virtual Progress progress() = 0;
  /// Why it will not go on; "" if nothing is known.
  virtual std::string trouble() = 0;
  /// A piece takes long. Once for each.
  virtual void report_late(std::chrono::milliseconds waited) noexcept = 0;
  /// A piece takes too long, or there is trouble. Once, in a thread of its own: what it does to
  /// end the work may have to wait for other work that has failed.
  virtual void fail(std::string_view why) noexcept = 0;
};

/// A thread that looks at what it watches every `interval`.
class Watchdog {
 public:
  explicit Watchdog(std::chrono::milliseconds interval);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

  /// The process's, which looks every 100 ms: there while somebody holds it.
  static std::shared_ptr<Watchdog> of_process();

 private:
  friend class Watch;
  using Clock = std::chrono::steady_clock;

  struct Entry {
    Watched* watched;
    DeadlineClock clock;  ///< of the same piece
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
  std::thread thread_;  ///< last: works on the others
};

/// Something is watched while one of these exists. Ends when no function of `watched` is running.
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
