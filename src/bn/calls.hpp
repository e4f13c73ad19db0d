// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "bn/validate.hpp"

namespace syncbn::bn {

/// Throws InvalidArgument unless the calls (ForwardCall or BackwardCall) are of layers of one
/// communicator, and each layer and `saved` is given once.
template <class Call>
void require_one_group(std::span<const Call> calls) {
  for (std::size_t i = 1; i < calls.size(); ++i) {
    const std::string& name = calls[i].layer.options().name;
    if (&calls[i].layer.communicator().group() != &calls[0].layer.communicator().group()) {
      throw InvalidArgument("layer '" + name + "' has another communicator than layer '" +
                            calls[0].layer.options().name +
                            "' (one message goes to one group). Call them one by one.");
    }
    for (const Call& other : calls.first(i)) {
      if (&other.layer == &calls[i].layer) {
        throw InvalidArgument("layer '" + name +
                              "' is given twice (its second pass starts from what the first "
                              "leaves). Call it by itself.");
      }
      if (&other.saved == &calls[i].saved) {
        throw InvalidArgument("layer '" + name + "': its `saved` is that of layer '" +
                              other.layer.options().name + "'. Give each its own.");
      }
    }
  }
}

/// Throws InvalidArgument if what one call writes is given to another: all take their sums before
/// any writes.
template <class Call, class MemoryOf>
void require_calls_apart(std::span<const Call> calls, MemoryOf memory_of) {
  for (const Call& one : calls) {
    const CallMemory memory = memory_of(one);
    for (const Call& other : calls) {
      if (&other != &one) {
        require_apart(memory, one.layer.options().name, memory_of(other),
                      other.layer.options().name);
      }
    }
  }
}

}  // namespace syncbn::bn
