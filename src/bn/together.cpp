// SPDX-License-Identifier: Apache-2.0
#include "bn/together.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <span>
#include <string>

#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "bn/batch_norm.hpp"
#include "comm/fingerprint.hpp"

namespace syncbn {
namespace bn {
namespace {

ChannelRange all_channels_of(const Pass& pass) {
  return {0, pass.what().channels};
}

/// What the ranks must agree on of several passes.
class JointDescriptor {
 public:
  /// Texts are put into `memory`.
  explicit JointDescriptor(JointParts& memory) : memory_(memory) {
    memory_.names.clear();
    memory_.options.clear();
  }

  void add(const comm::Descriptor& what) {
    memory_.names.append(memory_.names.empty() ? "" : " + ").append(what.layer);
    memory_.names.append("[").append(std::to_string(what.channels));
    memory_.names.append(what.given == comm::Given::residual ? ", residual]" : "]");
    memory_.options.append(memory_.options.empty() ? "" : " | ").append(what.options);
    what_.pass = what.pass;
    what_.dtype = what.dtype;
    what_.channels += what.channels;
    shared_.add(std::as_bytes(std::span(what.layer)))
        .add(std::as_bytes(std::span(what.options)))
        .add(static_cast<std::uint64_t>(what.channels))
        .add(static_cast<std::uint64_t>(what.dtype))
        .add(what.shared);
    parameters_.add(what.parameters);
  }

  comm::Descriptor all() const {
    comm::Descriptor what = what_;
    what.layer = memory_.names;
    what.options = memory_.options;
    what.shared = shared_.value();
    what.parameters = parameters_.value();
    return what;
  }

 private:
  JointParts& memory_;
  comm::Descriptor what_;
  comm::Fingerprint shared_, parameters_;
};

/// Collective. Sums the passes' messages, one behind the other, which their workspaces hold.
void exchange_together(std::span<Pass* const> passes, JointParts& memory) {
  JointDescriptor what(memory);
  std::vector<double>& values = memory.values;
  values.clear();
  for (const Pass* pass : passes) {
    what.add(pass->what());
    std::vector<double>& own = pass->working().messages[0];
    pass->pack(all_channels_of(*pass), 0, own);
    values.insert(values.end(), own.begin(), own.end());
  }
  passes.front()->group().exchange(what.all(), values);
  auto next = values.begin();
  for (Pass* pass : passes) {
    std::vector<double>& own = pass->working().messages[0];
    std::copy_n(next, own.size(), own.begin());
    next += static_cast<std::ptrdiff_t>(own.size());
    pass->unpack(all_channels_of(*pass), own);
  }
}

// Calls and their passes, which their layers hold.

ForwardArguments arguments_of(const ForwardCall& call) {
  return {.x = call.x, .residual = call.residual, .y = call.y, .weight = call.weight};
}

BackwardArguments arguments_of(const BackwardCall& call) {
  return {.context = {.x = call.x,
                      .dy = call.dy,
                      .statistics = call.saved.statistics,
                      .y = call.y,
                      .weight = call.weight},
          .dx = call.dx,
          .dresidual = call.dresidual};
}

Layer& layer_of(const ForwardCall& call) {
  return BatchNorm::Impl::of(call.layer).layer;
}

Layer& layer_of(const BackwardCall& call) {
  return BatchNorm::Impl::of(call.layer).layer;
}

void validate(const ForwardCall& call) {
  validate(arguments_of(call), layer_of(call));
}

void validate(const BackwardCall& call) {
  validate(arguments_of(call), layer_of(call), call.saved);
}

Pass& begin(const ForwardCall& call) {
  return BatchNorm::Impl::of(call.layer)
      .forward.emplace(layer_of(call), comm::Pass::forward, arguments_of(call));
}

Pass& begin(const BackwardCall& call) {
  return BatchNorm::Impl::of(call.layer)
      .backward.emplace(layer_of(call), arguments_of(call), call.saved);
}

void end(const ForwardCall& call) {
  BatchNorm::Impl::of(call.layer).forward->end_forward(call.saved);
}

void end(const BackwardCall& call) {
  BatchNorm::Impl::of(call.layer).backward->end();
}

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

template <class Call>
void calls_together(std::span<const Call> calls) try {
  if (calls.empty()) {
    return;
  }
  const DefaultArithmetic arithmetic;
  require_one_group(calls);
  for (const Call& call : calls) {
    validate(call);
  }
  require_calls_apart(calls);
  JointParts& memory = layer_of(calls.front()).working.joint;
  memory.passes.clear();
  for (const Call& call : calls) {
    memory.passes.push_back(&begin(call));
  }
  together(memory.passes, memory);
  for (const Call& call : calls) {
    end(call);
  }
} catch (const InvalidArgument& error) {
  layer_of(calls.front()).group().refused(error.what());
  throw;
}

}  // namespace

void together(std::span<Pass* const> passes, JointParts& memory) {
  comm::Group& group = passes.front()->group();
  try {
    for (Pass* pass : passes) {
      pass->working().sums.resize(sums_length(pass->what().channels));
      pass->sum(all_channels_of(*pass));
    }
    if (group.size() > 1) {
      exchange_together(passes, memory);
    } else {
      for (Pass* pass : passes) {
        pass->keep(all_channels_of(*pass));
      }
    }
    for (Pass* pass : passes) {
      pass->settle_and_use(all_channels_of(*pass));
    }
  } catch (const std::exception& error) {
    group.abandon(error.what());
    throw;
  }
}

}  // namespace bn

void forward_together(std::span<const ForwardCall> calls) {
  bn::calls_together(calls);
}

void backward_together(std::span<const BackwardCall> calls) {
  bn::calls_together(calls);
}

}  // namespace syncbn
