// SPDX-License-Identifier: Apache-2.0
#include "bn/host/repeated_sums.hpp"

#include "bn/host/plain_message.hpp"
#include "channels/pivot.hpp"
#include "comm/group/fingerprint.hpp"

namespace syncbn::bn {
namespace {

/// A forward takes its sums again so many times at most. If the pivot is off by any amount, the
/// first repeat is about a mean that is right within the rounding of that amount, or about 0 where
/// that rounding is larger than the mean. The second repeat is then about the mean within a few
/// standard deviations. The others are for channels whose squares left float's range.
constexpr int most_repeats = 4;

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
  bool any = false;
  const double limit = channels::nearness(working.sums.back(), dtype);
  for (auto c = static_cast<std::size_t>(channels.begin);
       c < static_cast<std::size_t>(channels.end); ++c) {
    const channels::SumsAboutPivot sums = sums_of(c, working);
    if (channels::pivot_is_far(sums, pivot[c], eps, limit, dtype)) {
      pivot[c] = channels::nearer_pivot(sums, pivot[c], dtype);
      any = true;
    }
    if (squares_are_float(dtype) && working.in_double[c] == 0 && channels::left_float(sums, eps)) {
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
    again.operation = comm::Operation::second_sums;
    if (group.size() > 1) {
      again.shared = comm::Fingerprint().add(std::as_bytes(pivot)).value();
    }
    exchange_again(group, again, channels, working);
  }
}

}  // namespace syncbn::bn
