// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "bn/pass.hpp"

namespace syncbn::bn {

/// Collective. Takes passes of several layers of one group with one message for all: each sums,
/// the message carries all sums, each goes on.
///
/// If anything throws, the group is unusable. `memory` is for the message.
void together(std::span<Pass* const> passes, JointParts& memory);

}  // namespace syncbn::bn
