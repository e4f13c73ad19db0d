// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "core/internal_api.hpp"

#include "comm/group/transport.hpp"

namespace syncbn::comm {

/// An all-reduce that is not this library's (MPI's, or the caller's): it adds up whatever the ranks
/// give it and does not check that they mean the same.
class PlainSum {
 public:
  virtual ~PlainSum() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Collective. Begins to sum the ranks' values in place, and returns a number by which to finish
  /// it. The values must stay where they are, untouched, until then. All ranks start their sums in
  /// the same order, with equal lengths.
  virtual std::size_t start(const Message& message, std::span<double> values) = 0;

  /// Returns whether `finish` would find the sum without waiting.
  virtual bool arrived(std::size_t started) = 0;

  /// Waits until the values hold the sum, the same bits on every rank. Each is finished once, in
  /// any order. Throws CommError if a rank does not come by the deadline, and whenever the sum may
  /// be wrong; nobody touches the values after that.
  virtual void finish(std::size_t started) = 0;

  // These do what Transport's functions of the same names promise.
  virtual void give_up(std::string_view why) noexcept = 0;
  virtual void refuse(std::string_view) noexcept {}

  /// Collective. Returns the all-reduce over the ranks with the same color: see Transport.
  virtual std::unique_ptr<PlainSum> split(std::span<const int> colors) = 0;
};

/// Makes a transport of `sum` that sends each message's fingerprint inside the same sum, as 8 more
/// values (fingerprint_words.hpp). So every rank notices a disagreement in the call in which it
/// happens; the ranks then exchange their descriptors to tell who did what.
///
/// A sum cannot check that its own lengths are equal. So the first message of each subject, count
/// and length is preceded by a sum of the fingerprint alone, which has the same length
/// everywhere. After 8192 of these all are forgotten and checked again.
SYNCBN_INTERNAL_API std::unique_ptr<Transport> with_fingerprints(std::unique_ptr<PlainSum> sum);

}  // namespace syncbn::comm
