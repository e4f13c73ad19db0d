// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "comm/descriptor.hpp"
#include "comm/group.hpp"

namespace syncbn::comm {

/// Why a rank calls the others' roll about a message on its device.
enum class Standing : std::uint8_t {
  begins,     ///< it is about to put one there, of a kind not sent before
  disagreed,  ///< the ranks' sum there did not add up
  waited      ///< it was not finished there in time
};

struct Call {
  Standing standing;
  Descriptor what;
  std::int64_t number;        ///< of the message
  std::uint64_t fingerprint;  ///< of all of the above but the standing, and of the length
};

/// Collective over `group`, an all-gather. Every rank comes with a message of its own, for a reason
/// of its own: whoever is in trouble meets those that are about to begin something, and all learn
/// what all are doing. Returns "" if all begin the same message; else what is wrong. Throws
/// CommError if a rank does not come by the group's deadline.
std::string call_roll(Group& group, const Call& own);

}  // namespace syncbn::comm
