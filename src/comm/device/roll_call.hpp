// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "comm/group/descriptor.hpp"
#include "comm/group/group.hpp"

namespace syncbn::comm {

/// The state of a rank's message on its device.
enum class Standing : std::uint8_t {
  begins,     ///< the rank is about to put it there, the first of its kind
  disagreed,  ///< the sum shows that the ranks' fingerprints differ
  waited      ///< the message was not finished within the deadline
};

/// The state that a rank contributes to a roll call.
struct Call {
  Standing standing;
  Descriptor what;
  std::int64_t number;        ///< of the message: 1, 2, ...
  std::uint64_t fingerprint;  ///< of `what` and the message's length
};

/// Collective over `group`. Gathers the states of all ranks and returns "" if all begin the same
/// message, or else a text on what is wrong. Ranks call it for different reasons and messages: one
/// whose message has failed meets others that are about to begin one, and all learn what all are
/// doing. Throws CommError if a rank does not come by the group's deadline.
std::string call_roll(Group& group, const Call& own);

}  // namespace syncbn::comm
