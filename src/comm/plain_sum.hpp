// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "comm/transport.hpp"

namespace syncbn::comm {

/// An all-reduce of somebody else's, which adds up whatever it is given and compares nothing.
class PlainSum {
 public:
  virtual ~PlainSum() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Collective. Begins to sum the ranks' values, which are copied, and returns a number to finish
  /// it by. All ranks start in the same order; the lengths are known to be equal where they are
  /// used for the first time.
  virtual std::size_t start(const Message& message, std::span<const double> values) = 0;

  /// Whether `finish` would find the sum without waiting.
  virtual bool arrived(std::size_t started) = 0;

  /// Leaves the sum, the same bits on every rank. In any order, each once. Throws CommError if a
  /// rank does not come by the deadline, and whenever the sum may be wrong.
  virtual void finish(std::size_t started, std::span<double> sum) = 0;

  virtual void give_up(std::string_view why) noexcept = 0;
  virtual void refuse(std::string_view) noexcept {}  ///< see Transport

  /// Collective. See Transport.
  virtual std::unique_ptr<PlainSum> split(std::span<const int> colors) = 0;
};

/// A transport that sends the fingerprint inside the same sum (fingerprint.hpp), 8 values more, so
/// that every rank sees a disagreement in the very call. The ranks then exchange their descriptors.
///
/// Equal lengths cannot be checked inside the sum that needs them. So the first message of a layer
/// is preceded by one of the fingerprint alone, which has the same length everywhere. After some
/// thousand layers it begins anew with all of them.
std::unique_ptr<Transport> with_fingerprints(std::unique_ptr<PlainSum> sum);

}  // namespace syncbn::comm
