// SPDX-License-Identifier: Apache-2.0
#include "comm/device/watchdog.hpp"

#include <algorithm>
#include <system_error>
#include <utility>

#include "comm/group/deadlines.hpp"

namespace syncbn::comm {

Watchdog::Watchdog(std::chrono::milliseconds interval)
    : interval_(interval), thread_([this] { run(); }) {}

Watchdog::~Watchdog() {
  {
    const std::scoped_lock lock(mutex_);
    ends_ = true;
  }
  ending_.notify_one();
  thread_.join();
}

std::shared_ptr<Watchdog> Watchdog::of_process() {
  static std::mutex mutex;
  static std::weak_ptr<Watchdog> present;
  const std::scoped_lock lock(mutex);
  std::shared_ptr<Watchdog> watchdog = present.lock();
  if (!watchdog) {
    watchdog = std::make_shared<Watchdog>(std::chrono::milliseconds(100));
    present = watchdog;
  }
  return watchdog;
}

void Watchdog::run() {
  std::unique_lock lock(mutex_);
  while (!ending_.wait_for(lock, interval_, [this] { return ends_; })) {
    for (Entry& entry : entries_) {
      look_at(entry);
    }
  }
}

void Watchdog::look_at(Entry& entry) {
  if (entry.failed) {
    return;
  }
  const Watched::Progress before = std::exchange(entry.seen, entry.watched->progress());
  const bool under_way = entry.seen.started != entry.seen.finished;
  DeadlineClock::Due due = DeadlineClock::Due::nothing;
  if (under_way && before.started != before.finished && before.finished == entry.seen.finished) {
    due = entry.clock.look();
  } else {
    entry.clock.restart();
  }
  const Deadlines& deadlines = entry.clock.deadlines();
  std::string why = entry.watched->trouble();
  if (why.empty() && due == DeadlineClock::Due::fail) {
    why = "not finished within " + in_seconds(deadlines.fail);
  }
  if (!why.empty()) {
    entry.failed = true;
    try {
      entry.failing = std::thread([watched = entry.watched, why] { watched->fail(why); });
    } catch (const std::system_error&) {  // there is no thread to be had
      entry.watched->fail(why);
    }
  } else if (due == DeadlineClock::Due::report) {
    entry.clock.report_is_made();
    entry.watched->report_late(deadlines.report);
  }
}

Watch::Watch(std::shared_ptr<Watchdog> watchdog, Watched& watched, Deadlines deadlines)
    : watchdog_(std::move(watchdog)) {
  const std::scoped_lock lock(watchdog_->mutex_);
  watchdog_->entries_.push_back({.watched = &watched, .clock = DeadlineClock(deadlines)});
  entry_ = std::prev(watchdog_->entries_.end());
}

Watch::~Watch() {
  std::list<Watchdog::Entry> own;
  {
    const std::scoped_lock lock(watchdog_->mutex_);
    own.splice(own.begin(), watchdog_->entries_, entry_);
  }
  if (entry_->failing.joinable()) {
    entry_->failing.join();
  }
}

}  // namespace syncbn::comm
