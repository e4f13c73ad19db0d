// SPDX-License-Identifier: Apache-2.0
#include "bn/device_exact.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <vector>

namespace syncbn::bn {
namespace {

using kernels::cuda::ExponentCode;
using kernels::cuda::TalliedPass;

std::size_t bytes_of(std::int64_t count, std::size_t bytes) {
  return static_cast<std::size_t>(count) * bytes;
}

/// Returns the length of the longest message, in doubles.
std::int64_t message_words(std::int64_t channels, const ExponentCode& code) {
  return std::max(kernels::cuda::sums_words(channels, true, true), code.message_words(channels));
}

std::array<std::int64_t, kernels::count_words> limbs_to_start_from(const ConstTensorView& x,
                                                                   const float* weight) {
  return kernels::cuda::limbs_of(weight == nullptr ? x.shape().per_channel() : 0);
}

}  // namespace

DeviceExact::DeviceExact(std::int64_t channels, int ranks)
    : code_(kernels::cuda::exponent_code(ranks)),
      exponents_(bytes_of(4 * channels, sizeof(int))),
      words_(bytes_of((kernels::cuda::tally_words + kernels::cuda::magnitude_words) * channels +
                          kernels::count_words,
                      sizeof(std::uint64_t))),
      values_(bytes_of(3 * channels, sizeof(double))),
      message_(bytes_of(message_words(channels, code_), sizeof(double)) +
               comm::DeviceSum::own_words * sizeof(double)) {
  int* exponents = exponents_.as<int>();
  auto* words = words_.as<std::uint64_t>();
  double* values = values_.as<double>();
  std::uint64_t* magnitudes = words + kernels::cuda::tally_words * channels;
  of_ = {.channels = channels,
         .first_window = exponents,
         .second_window = exponents + channels,
         .wanted = exponents + 2 * channels,
         .tallies = words,
         .magnitudes = magnitudes,
         .count = reinterpret_cast<std::int64_t*>(magnitudes +
                                                  kernels::cuda::magnitude_words * channels),
         .first_special = values,
         .second_special = values + channels,
         .gradient_exponent = exponents + 3 * channels,
         .var = values + 2 * channels};
  forget(nullptr);
}

void DeviceExact::forget(comm::Stream stream) {
  const auto c = static_cast<std::size_t>(of_.channels);
  const std::vector<double> no_var(c, -1);
  const std::vector<int> no_exponents(c, kernels::no_exponent);
  values_.upload(std::as_bytes(std::span(no_var)), stream, 2 * c * sizeof(double));
  exponents_.upload(std::as_bytes(std::span(no_exponents)), stream, 3 * c * sizeof(int));
  cuda::StreamView(stream).synchronize();
}

void DeviceExact::sum(comm::DeviceSum& group, const comm::Descriptor& what,
                      const Forward& arguments, comm::Stream stream) {
  const TalliedPass pass{.of = of_, .backward = false, .fine = what.dtype == DType::f64};
  kernels::cuda::choose_windows(
      kernels::cuda::ChooseForward{.pass = pass,
                                   .limbs = limbs_to_start_from(arguments.x, arguments.weight),
                                   .running_mean = arguments.running_mean,
                                   .running_var = arguments.running_var,
                                   .batches = arguments.batches,
                                   .momentum = arguments.momentum,
                                   .eps = arguments.eps,
                                   .pivot = arguments.pivot},
      stream);
  count(arguments.x, arguments.weight, stream);
  const kernels::cuda::ForwardTally tally{
      .pass = pass, .x = arguments.x, .weight = arguments.weight, .pivot = arguments.pivot};
  const kernels::cuda::SettleForward settle{.pass = pass,
                                            .message = message_.as<double>(),
                                            .round = 0,
                                            .eps = arguments.eps,
                                            .pivot = arguments.pivot,
                                            .sums = arguments.sums};
  take(group, what, tally, settle, stream);
}

void DeviceExact::sum(comm::DeviceSum& group, const comm::Descriptor& what,
                      const Backward& arguments, comm::Stream stream) {
  const kernels::Upstream& upstream = arguments.upstream;
  const TalliedPass pass{.of = of_, .backward = true, .fine = what.dtype == DType::f64};
  kernels::cuda::choose_windows(
      kernels::cuda::ChooseBackward{.pass = pass,
                                    .limbs = limbs_to_start_from(upstream.data, upstream.weight),
                                    .mean = upstream.mean,
                                    .invstd = arguments.invstd},
      stream);
  count(upstream.data, upstream.weight, stream);
  const kernels::cuda::BackwardTally tally{.pass = pass, .upstream = upstream};
  const kernels::cuda::SettleBackward settle{.pass = pass,
                                             .message = message_.as<double>(),
                                             .round = 0,
                                             .sums = arguments.sums,
                                             .own_sums = arguments.own_sums};
  take(group, what, tally, settle, stream);
}

void DeviceExact::count(const ConstTensorView& x, const float* weight, comm::Stream stream) {
  if (weight != nullptr) {
    kernels::cuda::count_weights(
        {.weight = weight, .size = x.shape().per_channel(), .count = of_.count}, stream);
  }
}

template <class Tally, class Settle>
void DeviceExact::take(comm::DeviceSum& group, comm::Descriptor what, const Tally& tally,
                       Settle settle, comm::Stream stream) {
  const TalliedPass& pass = tally.pass;
  double* message = message_.as<double>();
  const auto all_reduce = [&](std::int64_t words) {
    group.all_reduce(what, message, static_cast<std::size_t>(words), stream);
    what.operation = comm::Operation::second_sums;
  };
  for (int round = 0; round < Settle::rounds; ++round) {
    if (round > 0) {
      kernels::cuda::tally_magnitudes(tally, stream);
      kernels::cuda::pack_exponents(pass, code_, message, stream);
      all_reduce(code_.message_words(of_.channels));
      kernels::cuda::fit_windows({.pass = pass, .code = code_, .message = message}, stream);
    }
    kernels::cuda::tally(tally, stream);
    kernels::cuda::pack_sums(pass, message, stream);
    all_reduce(pass.words());
    settle.round = round;
    kernels::cuda::settle(settle, stream);
  }
}

}  // namespace syncbn::bn
