// SPDX-License-Identifier: Apache-2.0
#include "bn/device/exact.hpp"

#include <algorithm>
#include <span>
#include <vector>

#include "bn/operations.hpp"

namespace syncbn::bn {
namespace {

std::size_t bytes_of(std::int64_t count, std::size_t bytes) {
  return static_cast<std::size_t>(count) * bytes;
}

/// Returns the length of the longest message, in doubles.
std::int64_t message_words(std::int64_t channels, const channels::ExponentCode& code) {
  const channels::ExactPass longest{
      .of = {}, .range = {0, channels}, .backward = true, .fine = true};
  return std::max(longest.words(), code.message_words(channels));
}

/// Returns the count to start from: that of all positions, or 0 for weights that are counted next.
channels::CountLimbs first_count(const ConstTensorView& x, const float* position_weights) {
  return channels::count_weights(nullptr,
                                 position_weights == nullptr ? x.shape().per_channel() : 0);
}

}  // namespace

DeviceExact::DeviceExact(std::int64_t channels, int ranks)
    : code_(channels::exponent_code(ranks)),
      exponents_(bytes_of(channels::exact_ints * channels, sizeof(int))),
      words_(bytes_of(channels::exact_words(channels), sizeof(std::uint64_t))),
      values_(bytes_of(channels::exact_doubles * channels, sizeof(double))),
      message_(static_cast<std::size_t>(message_words(channels, code_))),
      of_(channels::lay_out(channels, exponents_.as<int>(), values_.as<double>(),
                            words_.as<std::uint64_t>())) {
  forget(nullptr);
}

void DeviceExact::forget(comm::Stream stream) {
  const auto c = static_cast<std::size_t>(of_.channels);
  const std::vector<double> no_var(c, -1);
  const std::vector<int> no_exponents(c, channels::no_exponent);
  cuda::upload(std::as_bytes(std::span(no_var)), of_.var, stream);
  cuda::upload(std::as_bytes(std::span(no_exponents)), of_.gradient_exponent, stream);
  cuda::StreamView(stream).synchronize();
}

channels::ExactPass DeviceExact::pass(const comm::Descriptor& what, bool backward) const {
  return {of_, {0, of_.channels}, backward, what.dtype == DType::f64};
}

void DeviceExact::sum(comm::DeviceSum& group, const comm::Descriptor& what,
                      const Forward& arguments, comm::Stream stream) {
  const channels::ExactPass pass = this->pass(what, false);
  kernels::cuda::run(
      channels::ChooseForward{pass, first_count(arguments.x, arguments.position_weights),
                              arguments.eps, arguments.pivot},
      stream);
  count(arguments.x, arguments.position_weights, stream);
  take(group, what,
       kernels::ForwardSums{.x = arguments.x,
                            .weight = arguments.position_weights,
                            .pivot = arguments.pivot,
                            .sums = nullptr},
       channels::SettleForward{.pass = pass,
                               .message = message_.data(),
                               .round = 0,
                               .eps = arguments.eps,
                               .pivot = arguments.pivot,
                               .sums = arguments.sums},
       nullptr, arguments.shared, stream);
}

void DeviceExact::sum(comm::DeviceSum& group, const comm::Descriptor& what,
                      const Backward& arguments, comm::Stream stream) {
  const kernels::Upstream& upstream = arguments.upstream;
  const channels::ExactPass pass = this->pass(what, true);
  kernels::cuda::run(channels::ChooseBackward{pass, first_count(upstream.data, upstream.weight),
                                              upstream.mean, arguments.invstd},
                     stream);
  count(upstream.data, upstream.weight, stream);
  take(group, what, kernels::BackwardSums{.upstream = upstream, .sums = nullptr},
       channels::SettleBackward{.pass = pass,
                                .message = message_.data(),
                                .round = 0,
                                .sums = arguments.sums,
                                .own_sums = arguments.own_sums},
       upstream.mean, nullptr, stream);
}

void DeviceExact::count(const ConstTensorView& x, const float* position_weights,
                        comm::Stream stream) {
  if (position_weights != nullptr) {
    kernels::cuda::count_weights(
        {.weight = position_weights, .size = x.shape().per_channel(), .count = of_.count}, stream);
  }
}

template <class Terms, class Settle>
void DeviceExact::take(comm::DeviceSum& group, comm::Descriptor what, const Terms& terms,
                       Settle settle, const double* mean, const std::uint64_t* shared,
                       comm::Stream stream) {
  const channels::ExactPass& pass = settle.pass;
  double* message = message_.data();
  const auto all_reduce = [&](std::int64_t words) {
    group.all_reduce(what, message_.first(static_cast<std::size_t>(words), shared), stream);
    what.operation = &second_sums_operation();
  };
  for (; settle.round < Settle::rounds; ++settle.round) {
    if (settle.round > 0) {
      kernels::cuda::tally_magnitudes(terms, of_, stream);
      kernels::cuda::run(channels::PackExponents{pass, code_, message}, stream);
      all_reduce(code_.message_words(of_.channels));
      kernels::cuda::run(channels::FitWindows{pass, code_, message, mean}, stream);
    }
    kernels::cuda::tally(terms, of_, stream);
    kernels::cuda::run(channels::PackSums{pass, message}, stream);
    all_reduce(pass.words());
    kernels::cuda::run(settle, stream);
  }
}

}  // namespace syncbn::bn
