// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>
#include <vector>

#include "kernels/kernels.hpp"

namespace syncbn::bn {

using kernels::ChannelRange;

/// What a pass does with some of its channels, cut where its message travels: sum, pack, (all
/// ranks' messages are summed), unpack, settle if need be, use. A group of one rank: sum, keep, and
/// so on.
class Steps {
 public:
  virtual ~Steps() = default;

  /// Takes this rank's sums.
  virtual void sum(const ChannelRange& channels) = 0;
  /// Writes the message. `wish` is a number of the rank's that goes with it.
  virtual void pack(const ChannelRange& channels, double wish,
                    std::vector<double>& message) const = 0;
  /// Takes the group's sums. Returns the sum of the wishes.
  virtual double unpack(const ChannelRange& channels, const std::vector<double>& message) = 0;
  virtual void keep(const ChannelRange& channels) = 0;
  /// Whether the group's sums are good enough to be used. The same on every rank.
  virtual bool is_settled(const ChannelRange& channels) const = 0;
  /// Collective. Takes the sums again where they are not settled, a limited number of times.
  virtual void settle(const ChannelRange& channels) = 0;
  /// Does what needs the group's sums.
  virtual void use(const ChannelRange& channels) = 0;
};

/// Collective where the sums are not settled.
inline void settle_and_use(Steps& steps, const ChannelRange& channels) {
  if (!steps.is_settled(channels)) {
    steps.settle(channels);
  }
  steps.use(channels);
}

/// How sums are taken again: `is_settled` and `settle` of Steps.
template <class IsSettled, class Settle>
struct Repeats {
  IsSettled is_settled;
  Settle settle;
};
template <class IsSettled, class Settle>
Repeats(IsSettled, Settle) -> Repeats<IsSettled, Settle>;  // Clang deduces it itself from 17 on

/// Steps out of a message's contents (PlainMessage or an ExactPass) and functions.
template <class Content, class Sum, class IsSettled, class Settle, class Use>
class StepsOf final : public Steps {
 public:
  StepsOf(Content& content, Sum sum, Repeats<IsSettled, Settle> repeats, Use use)
      : content_(content),
        sum_(std::move(sum)),
        repeats_(std::move(repeats)),
        use_(std::move(use)) {}

  void sum(const ChannelRange& channels) override { sum_(channels); }
  void pack(const ChannelRange& channels, double wish,
            std::vector<double>& message) const override {
    content_.pack(channels, wish, message);
  }
  double unpack(const ChannelRange& channels, const std::vector<double>& message) override {
    return content_.unpack(channels, message);
  }
  void keep(const ChannelRange& channels) override { content_.keep(channels); }
  bool is_settled(const ChannelRange& channels) const override {
    return repeats_.is_settled(channels);
  }
  void settle(const ChannelRange& channels) override { repeats_.settle(channels); }
  void use(const ChannelRange& channels) override { use_(channels); }

 private:
  Content& content_;
  Sum sum_;
  Repeats<IsSettled, Settle> repeats_;
  Use use_;
};

}  // namespace syncbn::bn
