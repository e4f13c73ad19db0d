// SPDX-License-Identifier: Apache-2.0
#include "comm/group.hpp"

#include <chrono>
#include <span>

#include "syncbn/error.hpp"

#include "comm/fingerprint.hpp"

namespace syncbn::comm {
namespace {

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

void Group::exchange(const Descriptor& what, std::vector<double>& payload) {
  if (failed_) {
    throw CommError("this communicator is unusable (an earlier exchange failed: " + failure_ +
                    "). Make a new one.");
  }
  if (size() == 1) {
    return;
  }
  const std::size_t length = payload.size();
  failed_ = true;  // until it has succeeded
  try {
    exchange_checked(what, payload);
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

void Group::exchange_checked(const Descriptor& what, std::vector<double>& payload) {
  const auto start = std::chrono::steady_clock::now();
  const std::uint64_t print = message_fingerprint(what, ++sequence_, payload.size());
  if (const std::uint64_t plan = plan_fingerprint(what, payload.size()); !known_.contains(plan)) {
    std::vector<double> nothing;
    reduce(what, print, nothing);
    known_.insert(plan);
  }
  reduce(what, print, payload);
  counters_.seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void Group::reduce(const Descriptor& what, std::uint64_t print, std::vector<double>& payload) {
  const std::size_t length = payload.size();
  const FingerprintWords words = to_words(print);
  payload.insert(payload.end(), words.begin(), words.end());
  transport_->all_reduce(payload);
  counters_.exchanges += 1;
  counters_.bytes += static_cast<std::int64_t>(payload.size() * sizeof(double));
  const auto summed = std::span(payload).last<fingerprint_words>();
  if (!all_equal(summed, print, size())) {
    throw_disagreement(what);
  }
  payload.resize(length);
}

void Group::throw_disagreement(const Descriptor& what) {
  std::vector<double> packed(static_cast<std::size_t>(size()) * descriptor_words, 0.0);
  pack(what, sequence_,
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
