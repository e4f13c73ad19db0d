// SPDX-License-Identifier: Apache-2.0
//
// Takes passes of several layers with one message: each layer sums, the message carries all sums,
// and each layer goes on. In the order of the calls, layers take sums again where they have to, and
// use them.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "bn/batch_norm.hpp"
#include "bn/host/phases.hpp"
#include "bn/host/place.hpp"
#include "bn/operations.hpp"
#include "bn/validate.hpp"
#include "comm/group/fingerprint.hpp"
#include "comm/group/group.hpp"

namespace syncbn {
namespace bn {
namespace {

/// A JointDescriptor says what the ranks must agree on when several passes share a message.
class JointDescriptor {
 public:
  /// Texts are put into `memory`, which says of what operation the passes are.
  explicit JointDescriptor(JointParts& memory) : memory_(memory) {
    memory_.names.clear();
    memory_.options.clear();
    what_.operation = memory.operation;
  }

  void add(const comm::Descriptor& what) {
    memory_.names.append(memory_.names.empty() ? "" : " + ").append(what.subject);
    memory_.names.append("[").append(std::to_string(what.count));
    memory_.names.append(has_residual(*what.operation) ? ", residual]" : "]");
    memory_.options.append(memory_.options.empty() ? "" : " | ").append(what.options);
    what_.dtype = what.dtype;
    what_.count += what.count;
    for (std::size_t fact = 0; fact < comm::most_facts; ++fact) {
      facts_[fact].add(what.facts[fact]);
    }
    facts_[Fact::statistics]
        .add(std::as_bytes(std::span(what.subject)))
        .add(std::as_bytes(std::span(what.options)))
        .add(static_cast<std::uint64_t>(what.count))
        .add(static_cast<std::uint64_t>(what.dtype));
  }

  comm::Descriptor all() const {
    comm::Descriptor what = what_;
    what.subject = memory_.names;
    what.options = memory_.options;
    what.facts = PassFacts{.parameters = facts_[Fact::parameters].value(),
                           .statistics = facts_[Fact::statistics].value()};
    what.facts[Fact::forward] = facts_[Fact::forward].value();
    return what;
  }

 private:
  JointParts& memory_;
  comm::Descriptor what_;
  std::array<comm::Fingerprint, comm::most_facts> facts_;
};

/// Collective. Puts the passes' messages one behind the other, sums them over the ranks, and gives
/// each pass its part.
void exchange(JointParts& joint) {
  JointDescriptor what(joint);
  joint.values.clear();
  for (Pass* pass : joint.passes) {
    what.add(pass->what());
    std::vector<double>& own = pass->working().messages[0];
    pass->pack(pass->all_channels(), 0, own);
    joint.values.insert(joint.values.end(), own.begin(), own.end());
  }
  joint.passes.front()->group().exchange(what.all(), joint.values);
  auto next = joint.values.begin();
  for (Pass* pass : joint.passes) {
    std::vector<double>& own = pass->working().messages[0];
    std::copy_n(next, own.size(), own.begin());
    next += static_cast<std::ptrdiff_t>(own.size());
    pass->unpack(pass->all_channels(), own);
  }
}

/// Collective. Takes the passes, which are of one group.
void take(JointParts& joint) {
  for (Pass* pass : joint.passes) {
    pass->working().sums.resize(sums_length(pass->what().count));
    pass->sum(pass->all_channels());
  }
  if (joint.passes.front()->group().size() > 1) {
    exchange(joint);
  } else {
    for (Pass* pass : joint.passes) {
      pass->keep(pass->all_channels());
    }
  }
  for (Pass* pass : joint.passes) {
    pass->settle_and_use(pass->all_channels());
  }
}

// These find where a call's layer is, its arguments, its operation but for the variant, and its
// pass.

template <class Call>
HostPlace& place_of(const Call& call) {
  BatchNorm::Impl& layer = BatchNorm::Impl::of(call.layer);
  if (layer.host == nullptr) {
    throw NotConfigured("layer '" + layer.layer.identity.name + "' is on " +
                        to_string(layer.place->device()) +
                        " (only layers on the CPU share a message). Call it by itself.");
  }
  return *layer.host;
}

ForwardArguments arguments_of(const ForwardCall& call) {
  return {.x = call.x,
          .residual = call.extras.residual,
          .y = call.y,
          .position_weights = call.extras.position_weights};
}

BackwardArguments arguments_of(const BackwardCall& call) {
  return {.x = call.x,
          .dy = call.dy,
          .dx = call.dx,
          .y = call.extras.y,
          .dresidual = call.extras.dresidual,
          .position_weights = call.extras.position_weights};
}

void validate(const ForwardCall& call, HostPlace& place) {
  const ForwardArguments arguments = arguments_of(call);
  ForwardRecord::Impl& record = ForwardRecord::Impl::of(call.record);
  bn::validate(arguments, place.host.layer, place, &record);
  record.make_room(place.host.layer, place);
  place.host.working.count = count_of(arguments.x, arguments.position_weights);
}

void validate(const BackwardCall& call, HostPlace& place) {
  const BackwardArguments arguments = arguments_of(call);
  bn::validate(arguments, place.host.layer, place, ForwardRecord::Impl::of(call.record));
  place.host.working.count = count_of(arguments.x, arguments.position_weights);
}

std::optional<ForwardPass>& pass_of(const ForwardCall& call) {
  return place_of(call).forward_pass;
}

std::optional<BackwardPass>& pass_of(const BackwardCall& call) {
  return place_of(call).backward_pass;
}

const comm::Operation& operation_of(const ForwardCall&) {
  return forward_operation(Given::x);
}

const comm::Operation& operation_of(const BackwardCall&) {
  return backward_operation(Given::x);
}

Pass& begin(const ForwardCall& call) {
  return pass_of(call).emplace(place_of(call).host, forward_operation(arguments_of(call).given()),
                               arguments_of(call));
}

Pass& begin(const BackwardCall& call) {
  return pass_of(call).emplace(place_of(call).host, arguments_of(call),
                               ForwardRecord::Impl::of(call.record));
}

void end(const ForwardCall& call) {
  pass_of(call)->end_forward(ForwardRecord::Impl::of(call.record));
}

void end(const BackwardCall& call) {
  pass_of(call)->end();
}

bool same_memory(const ForwardRecord& one, const ForwardRecord& other) {
  const ForwardRecord::Impl& a = ForwardRecord::Impl::of(one);
  const ForwardRecord::Impl& b = ForwardRecord::Impl::of(other);
  return &a == &b || (a.memory.data != nullptr && a.memory.data == b.memory.data);
}

/// Throws InvalidArgument unless the calls (ForwardCall or BackwardCall) are of layers of one
/// communicator, and each layer and record is given once.
template <class Call>
void require_one_group(std::span<const Call> calls) {
  for (std::size_t i = 1; i < calls.size(); ++i) {
    const std::string& name = calls[i].layer.options().name;
    if (&place_of(calls[i]).host.group() != &place_of(calls[0]).host.group()) {
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
      if (same_memory(other.record, calls[i].record)) {
        throw InvalidArgument("layer '" + name + "': its record is that of layer '" +
                              other.layer.options().name + "'. Give each its own.");
      }
    }
  }
}

/// Throws InvalidArgument if what one call writes is given to another: all take their sums before
/// any writes.
template <class Call>
void require_calls_apart(std::span<const Call> calls) {
  for (const Call& one : calls) {
    const CallMemory memory = memory_of(arguments_of(one));
    for (const Call& other : calls) {
      if (&other != &one) {
        require_apart(memory, one.layer.options().name, memory_of(arguments_of(other)),
                      other.layer.options().name);
      }
    }
  }
}

/// Holds the passes of calls, which live as long as this object, also where one cannot be made.
template <class Call>
class PassesOf {
 public:
  PassesOf(std::span<const Call> calls, JointParts& joint) : calls_(calls), joint_(joint) {}
  PassesOf(const PassesOf&) = delete;
  PassesOf& operator=(const PassesOf&) = delete;
  ~PassesOf() {
    joint_.passes.clear();
    for (const Call& call : calls_) {
      pass_of(call).reset();
    }
  }

  void make() {
    for (const Call& call : calls_) {
      joint_.passes.push_back(&begin(call));
    }
  }

 private:
  std::span<const Call> calls_;
  JointParts& joint_;
};

/// Collective. Takes calls that have been validated. If anything throws, the group is unusable: the
/// other ranks would wait for this one in vain.
template <class Call>
void take_validated(std::span<const Call> calls) {
  HostLayer& first = place_of(calls.front()).host;
  try {
    JointParts& joint = first.working.joint;
    PassesOf<Call> passes(calls, joint);
    passes.make();
    joint.operation = &operation_of(calls.front());
    take(joint);
    for (const Call& call : calls) {
      end(call);
    }
  } catch (const std::exception& error) {
    first.group().abandon(error.what());
    throw;
  }
}

template <class Call>
void together(std::span<const Call> calls) try {
  if (calls.empty()) {
    return;
  }
  const DefaultArithmetic arithmetic;
  require_one_group(calls);
  for (const Call& call : calls) {
    validate(call, place_of(call));
  }
  require_calls_apart(calls);
  take_validated(calls);
} catch (const std::exception& error) {
  for (const Call& call : calls) {
    if (HostPlace* const place = BatchNorm::Impl::of(call.layer).host) {
      place->refused(error.what());
    }
  }
  throw;
}

}  // namespace
}  // namespace bn

void forward_together(std::span<const ForwardCall> calls) {
  bn::together(calls);
}

void backward_together(std::span<const BackwardCall> calls) {
  bn::together(calls);
}

}  // namespace syncbn
