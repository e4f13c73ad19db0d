// SPDX-License-Identifier: Apache-2.0
#pragma once

// A layer tells its group what it exchanges: an operation, which has the words for error messages,
// and facts, on which the ranks must agree.

#include <cstddef>
#include <cstdint>

#include "comm/group/descriptor.hpp"

namespace syncbn::bn {

/// The variant of a layer's pass: what it works with besides x. All ranks must take the same one.
enum class Given : std::uint8_t {
  x,         ///< nothing else
  residual,  ///< a residual that is added
  in_place,  ///< x becomes y
  frozen     ///< the running statistics, in a backward behind an infer
};

const comm::Operation& forward_operation(Given given);
/// Names the exchange of an infer with the batch's statistics.
const comm::Operation& infer_operation(Given given);
const comm::Operation& backward_operation(Given given);
/// Names the exchanges of a pass that follow its first, in which the ranks agreed on the variant.
const comm::Operation& second_sums_operation();

/// Returns whether it is a pass with a residual.
bool has_residual(const comm::Operation& operation);

/// Names the places of a pass's facts in a descriptor. Where several differ, the first is
/// explained.
struct Fact {
  static constexpr std::size_t forward = 0;     ///< the number of the layer's last forward; in a
                                                ///< backward that of its own, 0 for an infer
  static constexpr std::size_t parameters = 1;  ///< fingerprint of gamma and beta, or some of them
  static constexpr std::size_t blocks = 2;      ///< the number of blocks of channels
  static constexpr std::size_t statistics = 3;  ///< fingerprint of what else a forward starts from
};

/// Holds the facts of a pass by name.
struct PassFacts {
  std::int64_t forward = 0;
  std::uint64_t parameters = 0;
  std::int64_t blocks = 1;
  std::uint64_t statistics = 0;

  operator comm::Facts() const;
};

}  // namespace syncbn::bn
