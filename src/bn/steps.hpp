// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>
#include <vector>

#include "kernels/kernels.hpp"

namespace syncbn::bn {

using kernels::ChannelRange;

/// What a pass does with some of its channels, cut where its message travels: sum, pack, (all
/// ranks' messages are summed), unpack, use. A group of one rank: sum, keep, use.
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
  /// Does what needs the group's sums; where they are not good enough, collectively takes them
  /// again before.
  virtual void use(const ChannelRange& channels) = 0;
};

/// Steps out of a message's contents (PlainMessage or an ExactPass) and two functions.
template <class Content, class Sum, class Use>
class StepsOf final : public Steps {
 public:
  StepsOf(Content& content, Sum sum, Use use)
      : content_(content), sum_(std::move(sum)), use_(std::move(use)) {}

  void sum(const ChannelRange& channels) override { sum_(channels); }
  void pack(const ChannelRange& channels, double wish,
            std::vector<double>& message) const override {
    content_.pack(channels, wish, message);
  }
  double unpack(const ChannelRange& channels, const std::vector<double>& message) override {
    return content_.unpack(channels, message);
  }
  void keep(const ChannelRange& channels) override { content_.keep(channels); }
  void use(const ChannelRange& channels) override { use_(channels); }

 private:
  Content& content_;
  Sum sum_;
  Use use_;
};

}  // namespace syncbn::bn
