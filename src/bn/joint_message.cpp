// SPDX-License-Identifier: Apache-2.0
#include "bn/joint_message.hpp"

#include <string>

namespace syncbn::bn {
namespace {

constexpr ChannelRange all_of(const Workspace& working) {
  return {0, static_cast<std::int64_t>(working.sums.size() / 2)};
}

}  // namespace

JointMessage::JointMessage(comm::Group& group, Workspace& working)
    : group_(group), parts_(working.joint) {
  parts_.names.clear();
  parts_.options.clear();
  parts_.values.clear();
}

JointMessage::Part JointMessage::add(const comm::Descriptor& what, Steps& steps,
                                     Workspace& working) {
  working.sums.resize(sums_length(what.channels));
  steps.sum(all_of(working));
  if (group_.size() == 1) {
    return {};
  }
  std::vector<double>& own = working.messages[0];
  steps.pack(all_of(working), 0, own);
  const Part part{parts_.values.size(), own.size()};
  parts_.values.insert(parts_.values.end(), own.begin(), own.end());

  parts_.names.append(parts_.names.empty() ? "" : " + ").append(what.layer);
  parts_.names.append("[").append(std::to_string(what.channels));
  parts_.names.append(what.given == comm::Given::residual ? ", residual]" : "]");
  parts_.options.append(parts_.options.empty() ? "" : " | ").append(what.options);
  what_.pass = what.pass;
  what_.dtype = what.dtype;
  what_.channels += what.channels;
  shared_.add(std::as_bytes(std::span(what.layer)))
      .add(std::as_bytes(std::span(what.options)))
      .add(static_cast<std::uint64_t>(what.channels))
      .add(static_cast<std::uint64_t>(what.dtype))
      .add(what.shared);
  parameters_.add(what.parameters);
  return part;
}

void JointMessage::exchange() {
  if (group_.size() == 1) {
    return;
  }
  what_.layer = parts_.names;
  what_.options = parts_.options;
  what_.shared = shared_.value();
  what_.parameters = parameters_.value();
  group_.exchange(what_, parts_.values);
}

void JointMessage::use(const Part& part, Steps& steps, Workspace& working) {
  if (group_.size() == 1) {
    steps.keep(all_of(working));
  } else {
    const auto begin = parts_.values.begin() + static_cast<std::ptrdiff_t>(part.begin);
    std::vector<double>& own = working.messages[0];
    own.assign(begin, begin + static_cast<std::ptrdiff_t>(part.length));
    steps.unpack(all_of(working), own);
  }
  settle_and_use(steps, all_of(working));
}

}  // namespace syncbn::bn
