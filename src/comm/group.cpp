// SPDX-License-Identifier: Apache-2.0
#include "comm/group.hpp"

#include <algorithm>
#include <chrono>
#include <span>
#include <stdexcept>

#include "syncbn/error.hpp"

#include "comm/fingerprint.hpp"

namespace syncbn::comm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::uint64_t plan_fingerprint(const Descriptor& what, std::size_t length) {
  return Fingerprint()
      .add(bytes_of(what.layer))
      .add(static_cast<std::uint64_t>(what.channels))
      .add(length)
      .value();
}

std::uint64_t message_fingerprint(const Descriptor& what, std::int64_t sequence,
                                  std::size_t length) {
  return Fingerprint()
      .add(plan_fingerprint(what, length))
      .add(static_cast<std::uint64_t>(sequence))
      .add(static_cast<std::uint64_t>(what.pass))
      .add(static_cast<std::uint64_t>(what.dtype))
      .add(what.shared)
      .value();
}

}  // namespace

template <class Body>
void Group::guarded(const Descriptor& what, std::vector<double>& payload, std::size_t length,
                    Body body) {
  if (failed_) {
    throw CommError("this communicator is unusable (an earlier exchange failed: " + failure_ +
                    "). Make a new one.");
  }
  failed_ = true;  // until it has succeeded
  try {
    body();
    failed_ = false;
  } catch (const std::exception& error) {
    failure_ = error.what();
  } catch (...) {
    failure_ = "an exception of unknown type";
  }
  if (failed_) {
    payload.resize(length);
    throw CommError("rank " + std::to_string(rank()) + " of " + std::to_string(size()) + ", " +
                    describe(what) + ": " + failure_);
  }
}

void Group::abandon(std::string_view why) {
  if (!failed_ && size() > 1) {
    failed_ = true;
    failure_ = why;
  }
}

void Group::start(const Descriptor& what, std::vector<double>& payload) {
  const std::size_t length = payload.size();
  guarded(what, payload, length, [&] {
    if (size() == 1) {
      return;
    }
    const Clock::time_point begin = Clock::now();
    const std::uint64_t print = message_fingerprint(what, ++sequence_, length);
    if (const std::uint64_t plan = plan_fingerprint(what, length); !known_.contains(plan)) {
      std::vector<double> nothing;
      receive(what, send(print, nothing), nothing);
      known_.insert(plan);
    }
    Pending pending = send(print, payload);
    pending.seconds = seconds_since(begin);
    pending_.push_back(pending);
  });
}

void Group::finish(const Descriptor& what, std::vector<double>& payload) {
  if (size() == 1) {
    return;
  }
  const auto found = std::ranges::find(pending_, &payload, &Pending::payload);
  const std::size_t length =
      found == pending_.end() ? payload.size() : payload.size() - fingerprint_words;
  guarded(what, payload, length, [&] {
    if (found == pending_.end()) {
      throw std::logic_error("nothing was started");
    }
    const Pending pending = *found;
    pending_.erase(found);
    const Clock::time_point begin = Clock::now();
    receive(what, pending, payload);
    const double seconds = pending.seconds + seconds_since(begin);
    counters_.seconds += seconds;
    fastest_ = std::min(fastest_, seconds);
  });
}

Group::Pending Group::send(std::uint64_t print, std::vector<double>& payload) {
  const FingerprintWords words = to_words(print);
  payload.insert(payload.end(), words.begin(), words.end());
  return {&payload, transport_->start(payload), print, sequence_, 0};
}

void Group::receive(const Descriptor& what, const Pending& pending, std::vector<double>& payload) {
  transport_->finish(pending.started, payload);
  counters_.exchanges += 1;
  counters_.bytes += static_cast<std::int64_t>(payload.size() * sizeof(double));
  const auto summed = std::span(payload).last<fingerprint_words>();
  if (!all_equal(summed, pending.print, size())) {
    throw_disagreement(what, pending.sequence);
  }
  payload.resize(payload.size() - fingerprint_words);
}

void Group::throw_disagreement(const Descriptor& what, std::int64_t sequence) {
  std::vector<double> packed(static_cast<std::size_t>(size()) * descriptor_words, 0.0);
  pack(what, sequence,
       std::span(packed).subspan(static_cast<std::size_t>(rank()) * descriptor_words,
                                 descriptor_words));
  transport_->all_reduce(packed);
  throw CommError(describe_disagreement(packed));
}

std::shared_ptr<Group> Group::split(int color) {
  std::vector<double> colors(static_cast<std::size_t>(size()), 0.0);
  colors[static_cast<std::size_t>(rank())] = color;
  exchange({.pass = Pass::split, .channels = size()}, colors);
  const std::vector<int> integers(colors.begin(), colors.end());
  try {
    return std::make_shared<Group>(transport_->split(integers));
  } catch (const CommError& error) {
    failed_ = true;
    failure_ = error.what();
    throw;
  }
}

}  // namespace syncbn::comm
