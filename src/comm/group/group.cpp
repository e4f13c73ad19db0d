// SPDX-License-Identifier: Apache-2.0
#include "comm/group/group.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <limits>
#include <unistd.h>
#include <vector>

#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "comm/group/fingerprint.hpp"
#include "comm/group/flight_files.hpp"

namespace syncbn::comm {
Group::Group(std::unique_ptr<Transport> transport, std::uint64_t number)
    : transport_(std::move(transport)), number_(number) {
  if (size() > 1) {
    record_ = transport_->flight_record();
    if (record_ == nullptr) {
      own_record_ = std::make_unique<FlightRecord>();
      record_ = own_record_.get();
    }
  }
}

std::uint64_t Group::new_number() {
  static std::atomic<std::uint64_t> given{0};
  const std::string host = host_name();
  const std::int64_t now = std::chrono::system_clock::now().time_since_epoch().count();
  return Fingerprint()
      .add(std::as_bytes(std::span(host)))
      .add(static_cast<std::uint64_t>(getpid()))
      .add(static_cast<std::uint64_t>(now))
      .add(given++)
      .value();
}

template <class Body>
void Group::guarded(const Descriptor& what, Body body) {
  if (failed_) {
    throw CommError("this communicator is unusable (an earlier exchange failed: " + failure_ +
                    "). Make a new one.");
  }
  std::string why;
  try {
    const DefaultArithmetic arithmetic;
    body();
    return;
  } catch (const std::exception& error) {
    why = error.what();
  } catch (...) {
    why = "an exception of unknown type";
  }
  // The other ranks are told outside of the handler. Where ranks are coroutines of one thread, as
  // in a simulation, another rank may throw while this one's exception is still being handled.
  fail(why);
  throw CommError("rank " + std::to_string(rank()) + " of " + std::to_string(size()) + ", " +
                  describe(what) + ": " + failure_);
}

void Group::abandon(std::string_view why) {
  if (!failed_ && size() > 1) {
    fail(why);
  }
}

void Group::refused(std::string_view why) noexcept {
  if (!failed_ && size() > 1) {
    transport_->refuse(why);
  }
}

void Group::fail(std::string_view why) {
  failed_ = true;
  failure_ = why;
  transport_->give_up(why);
  keep_flight_record(flight_record());
}

std::string Group::flight_record() const {
  return to_json(record_, {number_, rank(), size()}, failure_);
}

PendingSum Group::begin(const Descriptor& what, std::span<double> data, Ticks now) {
  const Message message = stamped(what, ++sequence_, data.size());
  record_->start(message, now);
  PendingSum started;
  started.ticket_ = transport_->start(message, data);
  started.sequence_ = message.sequence;
  started.length_ = data.size();
  under_way_.push_back(started);
  return started;
}

void Group::end(const PendingSum& started, Ticks since) {
  transport_->finish(started.ticket_);
  std::erase_if(under_way_,
                [&](const PendingSum& sum) { return sum.sequence_ == started.sequence_; });
  const Ticks now = ticks_now();
  record_->finish(started.sequence_, now);
  const Ticks time = started.time_ + (now - since);
  counters_.exchanges += 1;
  counters_.bytes += static_cast<std::int64_t>(started.length_ * sizeof(double));
  time_ += time;
  fastest_ = fastest_ == 0 ? time : std::min(fastest_, time);
}

Counters Group::counters() const {
  Counters counters = counters_;
  counters.seconds = static_cast<double>(time_) * seconds_per_tick();
  return counters;
}

double Group::fastest() const {
  return fastest_ == 0 ? std::numeric_limits<double>::infinity()
                       : static_cast<double>(fastest_) * seconds_per_tick();
}

PendingSum Group::start(const Descriptor& what, std::span<double> data) {
  PendingSum started;
  if (size() > 1) {
    guarded(what, [&] {
      const Ticks now = ticks_now();
      started = begin(what, data, now);
      started.time_ = ticks_now() - now;
    });
  }
  return started;
}

bool Group::arrived(const Descriptor& what, PendingSum& started) {
  bool answer = true;
  if (size() > 1) {
    guarded(what, [&] {
      const Ticks now = ticks_now();
      answer = transport_->arrived(started.ticket_);
      started.time_ += ticks_now() - now;
    });
  }
  return answer;
}

void Group::finish(const Descriptor& what, const PendingSum& started) {
  if (size() > 1) {
    const bool known = std::ranges::any_of(under_way_, [&](const PendingSum& sum) {
      return sum.sequence_ == started.sequence_ && sum.ticket_ == started.ticket_ &&
             sum.length_ == started.length_;
    });
    if (!known && !failed_) {
      throw InvalidArgument(
          "a sum that is not under way in this communicator (each is finished once, by the rank "
          "and the communicator that started it)");
    }
    guarded(what, [&] { end(started, ticks_now()); });
  }
}

void Group::exchange(const Descriptor& what, std::span<double> data) {
  if (size() > 1) {
    guarded(what, [&] {
      const Ticks now = ticks_now();
      end(begin(what, data, now), now);
    });
  }
}

std::shared_ptr<Group> Group::split(int color) {
  std::vector<double> colors(static_cast<std::size_t>(size()), 0.0);
  colors[static_cast<std::size_t>(rank())] = color;
  const Descriptor what{.operation = &operations::split, .count = size()};
  exchange(what, colors);
  const std::vector<int> integers(colors.begin(), colors.end());
  try {
    // The sequence number tells this split from others of the same group.
    const std::uint64_t number = Fingerprint()
                                     .add(number_)
                                     .add(static_cast<std::uint64_t>(sequence_))
                                     .add(static_cast<std::uint64_t>(color))
                                     .value();
    return std::make_shared<Group>(transport_->split(integers), number_ == 0 ? 0 : number);
  } catch (const std::exception& error) {
    abandon(error.what());
    throw;
  }
}

}  // namespace syncbn::comm
