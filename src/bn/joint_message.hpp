// SPDX-License-Identifier: Apache-2.0
#pragma once

// The passes of several layers with one exchange between all their sums and all that uses them.

#include <cstddef>
#include <exception>
#include <span>

#include "bn/passes.hpp"
#include "bn/steps.hpp"
#include "comm/fingerprint.hpp"
#include "comm/group.hpp"

namespace syncbn::bn {

/// One message of several layers: each has a part, behind the one before.
class JointMessage {
 public:
  /// `working` is of the layer that comes first, whose memory it takes.
  JointMessage(comm::Group& group, Workspace& working);

  /// Values [begin, begin + length) of the message.
  struct Part {
    std::size_t begin;
    std::size_t length;
  };

  /// Runs `body`, which adds, exchanges and uses. If it throws, the group is unusable: the others
  /// would wait for this rank in vain.
  template <class Body>
  void guarded(Body body) {
    try {
      body();
    } catch (const std::exception& error) {
      group_.abandon(error.what());
      throw;
    }
  }

  /// Takes a layer's sums and adds its part.
  Part add(const comm::Descriptor& what, Steps& steps, Workspace& working);
  /// Collective, when all have been added.
  void exchange();
  /// Gives a layer the group's sums. Collective where they have to be taken again.
  void use(const Part& part, Steps& steps, Workspace& working);

 private:
  comm::Group& group_;
  JointParts& parts_;
  comm::Descriptor what_;
  comm::Fingerprint shared_, parameters_;
};

}  // namespace syncbn::bn
