// SPDX-License-Identifier: Apache-2.0
#pragma once

// ExactForward and ExactBackward take exact sums on the host, in the steps of
// channels/exact_steps.hpp. Each step is taken for a range of channels.

#include <span>
#include <vector>

#include "syncbn/phases.hpp"

#include "bn/host/workspace.hpp"
#include "channels/exact_steps.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {

class ExactSums {
 public:
  virtual ~ExactSums() = default;
  ExactSums(const ExactSums&) = delete;
  ExactSums& operator=(const ExactSums&) = delete;

  // Pass calls these; pass.hpp says what they do.
  void sum(const ChannelRange& channels);
  void pack(const ChannelRange& channels, std::vector<double>& message) const;
  void unpack(const ChannelRange& channels, const double* message);
  void keep(const ChannelRange& channels);
  bool is_settled(const ChannelRange& channels) const;
  void settle(const ChannelRange& channels);

 protected:
  /// `mean` is null in a forward.
  ExactSums(comm::Group& group, const comm::Descriptor& what, Workspace& working,
            const double* mean);

  const channels::ExactChannels& of() const { return working_.exact->of(); }
  channels::ExactPass pass(const ChannelRange& channels) const {
    return {of(), channels, mean_ != nullptr, what_.dtype == DType::f64};
  }
  Workspace& working() { return working_; }

 private:
  /// Tallies this rank's terms.
  virtual void tally(const ChannelRange& channels) = 0;
  virtual void tally_magnitudes(const ChannelRange& channels) = 0;
  /// Reads the group's sums, and finds the channels whose sums are to be taken again.
  virtual void settle_round(const channels::ExactPass& pass, const double* message, int round) = 0;
  virtual int rounds() const = 0;

  void exchange();
  /// Calls run(part) for the parts of a range in which all channels are wanted.
  template <class Run>
  void for_wanted(const ChannelRange& channels, Run run) const;

  comm::Group& group_;
  comm::Descriptor what_;
  Workspace& working_;
  const double* mean_;
  channels::ExponentCode code_;
  std::vector<double>& message_;  ///< of sums taken again
};

/// Takes the sums of w (x - K) and w (x - K)^2 into working.sums.
class ExactForward final : public ExactSums {
 public:
  /// Chooses the first windows, and rounds the pivot.
  ExactForward(comm::Group& group, const comm::Descriptor& what, Workspace& working,
               Backend backend, const ConstTensorView& x, PositionWeights position_weights,
               std::span<double> pivot, double eps);

 private:
  void tally(const ChannelRange& channels) override;
  void tally_magnitudes(const ChannelRange& channels) override;
  void settle_round(const channels::ExactPass& pass, const double* message, int round) override;
  int rounds() const override { return channels::SettleForward::rounds; }

  /// Returns what the kernels sum. The sums themselves are not written.
  kernels::ForwardSums terms() const;

  const kernels::Kernels& kernels_;
  const ConstTensorView& x_;
  PositionWeights position_weights_;
  std::span<double> pivot_;
  double eps_;
};

/// Takes the sums of dz and dz (x - mean) into working.sums, and this rank's own into
/// working.own_sums.
class ExactBackward final : public ExactSums {
 public:
  /// Chooses the first windows.
  ExactBackward(comm::Group& group, const comm::Descriptor& what, Workspace& working,
                Backend backend, const kernels::Upstream& upstream, const double* invstd);

 private:
  void tally(const ChannelRange& channels) override;
  void tally_magnitudes(const ChannelRange& channels) override;
  void settle_round(const channels::ExactPass& pass, const double* message, int round) override;
  int rounds() const override { return channels::SettleBackward::rounds; }

  /// Calls run(kernels, terms, part) for the channels, in parts as in_range_of does.
  template <class Run>
  void in_parts(const ChannelRange& channels, Run run);

  Backend backend_;
  const kernels::Upstream& upstream_;
  const double* invstd_;
};

}  // namespace syncbn::bn
