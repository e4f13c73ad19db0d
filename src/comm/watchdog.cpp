// SPDX-License-Identifier: Apache-2.0
#include "comm/watchdog.hpp"

#include <algorithm>
#include <system_error>
#include <utility>

#include "comm/deadlines.hpp"

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
  Clock::time_point last = Clock::now();
  while (!ending_.wait_for(lock, interval_, [this] { return ends_; })) {
    // Whoever is stopped himself has not waited: the work may have gone on in the meantime.
    constexpr Clock::duration longest_step = std::chrono::seconds(1);
    const Clock::time_point now = Clock::now();
    const Clock::duration step = std::min(now - last, longest_step);
    last = now;
    for (Entry& entry : entries_) {
      look_at(entry, step);
    }
  }
}

void Watchdog::look_at(Entry& entry, Clock::duration step) {
  if (entry.failed) {
    return;
  }
  const Watched::Progress before = std::exchange(entry.seen, entry.watched->progress());
  const bool under_way = entry.seen.started != entry.seen.finished;
  if (under_way && before.started != before.finished && before.finished == entry.seen.finished) {
    entry.waited += step;
  } else {
    entry.waited = Clock::duration(0);
    entry.reported = false;
  }
  const Deadlines& deadlines = entry.deadlines;
  std::string why = entry.watched->trouble();
  if (why.empty() && entry.waited >= deadlines.fail) {
    why = "not finished within " + in_seconds(deadlines.fail);
  }
  if (!why.empty()) {
    entry.failed = true;
    try {
      entry.failing = std::thread([watched = entry.watched, why] { watched->fail(why); });
    } catch (const std::system_error&) {  // no thread to be had
      entry.watched->fail(why);
    }
  } else if (entry.waited >= deadlines.report && !entry.reported &&
             deadlines.report < deadlines.fail) {
    entry.reported = true;
    entry.watched->report_late(deadlines.report);
  }
}

Watch::Watch(std::shared_ptr<Watchdog> watchdog, Watched& watched, Deadlines deadlines)
    : watchdog_(std::move(watchdog)) {
  const std::scoped_lock lock(watchdog_->mutex_);
  Watchdog::Entry& entry = watchdog_->entries_.emplace_back();
  entry.watched = &watched;
  entry.deadlines = deadlines;
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
