// SPDX-License-Identifier: Apache-2.0
#include "bn/host/repeated_sums.hpp"

#include "bn/host/batch_state.hpp"
#include "bn/host/plain_message.hpp"
#include "bn/operations.hpp"
#include "channels/pivot.hpp"
#include "comm/group/fingerprint.hpp"

namespace syncbn::bn {
namespace {

channels::SumsAboutPivot sums_of(std::size_t c, const Workspace& working) {
  const std::vector<double>& sums = working.sums;
  return {sums[c], sums[sums.size() / 2 + c], sums.back()};
}

/// Returns whether squares of differences may leave the range of the floats that they are added in.
/// Those of f16 are added in float, too, but stay inside its range.
bool squares_are_float(DType dtype) {
  return dtype == DType::bf16;
}

/// Moves far pivots, and marks channels that are to be summed in double. Returns whether there are
/// any of either.
bool choose_repeats(const ChannelRange& channels, std::span<double> pivot, double eps, DType dtype,
                    Workspace& working) {
  bool any = move_far_pivots(channels, working.sums, pivot, eps, dtype);
  for (auto c = static_cast<std::size_t>(channels.begin);
       squares_are_float(dtype) && c < static_cast<std::size_t>(channels.end); ++c) {
    if (working.in_double[c] == 0 && channels::left_float(sums_of(c, working), eps)) {
      working.in_double[c] = 1;
      any = true;
    }
  }
  return any;
}

}  // namespace

bool must_repeat_sums(DType dtype, const ChannelRange& channels, std::span<const double> pivot,
                      double eps, const Workspace& working) {
  const double limit = channels::nearness(working.sums.back(), dtype);
  for (auto c = static_cast<std::size_t>(channels.begin);
       c < static_cast<std::size_t>(channels.end); ++c) {
    const channels::SumsAboutPivot sums = sums_of(c, working);
    if (channels::pivot_is_far(sums, pivot[c], eps, limit, dtype) ||
        (squares_are_float(dtype) && channels::left_float(sums, eps))) {
      return true;
    }
  }
  return false;
}

void repeat_sums(comm::Group& group, const comm::Descriptor& what, const ConstTensorView& x,
                 PositionWeights position_weights, const ChannelRange& channels,
                 std::span<double> pivot, double eps, Backend backend, Workspace& working) {
  working.in_double.assign(pivot.size(), 0);
  int repeats = 0;
  while (repeats < most_repeats && choose_repeats(channels, pivot, eps, x.dtype(), working)) {
    ++repeats;
    forward_sums(x, channels, position_weights, pivot, working.sums, backend, working.scratch);
    for (std::int64_t c = channels.begin; c < channels.end; ++c) {
      if (working.in_double[static_cast<std::size_t>(c)] != 0) {
        forward_sums(x, {c, c + 1}, position_weights, pivot, working.sums, Backend::reference,
                     working.scratch);
      }
    }
    comm::Descriptor again = what;
    again.operation = &second_sums_operation();
    if (group.size() > 1) {
      again.facts[Fact::statistics] = comm::Fingerprint().add(std::as_bytes(pivot)).value();
    }
    exchange_again(group, again, channels, working);
  }
}

}  // namespace syncbn::bn
