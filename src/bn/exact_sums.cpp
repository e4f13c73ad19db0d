// SPDX-License-Identifier: Apache-2.0
#include "bn/exact_sums.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace syncbn::bn {
namespace {

using kernels::FixedPointSum;
using kernels::Integer;

constexpr double half = 0x1p32;  ///< of an Integer
constexpr std::size_t words_of_count = std::tuple_size_v<CountLimbs>;

// Standard deviations of the history that a forward's window holds, and largest gradients of the
// last step that a backward's does, as powers of 2.
constexpr int deviations = 8;
constexpr int gradients = 6;
// A product of dz and x - mean is rarely as large as both factors' largest.
constexpr int deviations_of_products = 4;
// How much wider than the largest gradient a window may be.
constexpr int widest = 16;

// Exponents of doubles, as frexp gives them.
constexpr int least_exponent = -1100;
constexpr int base_bits = 20;  ///< of B
constexpr int fine_exponents = 32;
constexpr int coarse_exponents = 69;  ///< that many times 32 hold all of them
constexpr int largest_steps = kernels::unit_bits + 1;

/// B^digit, the middle one of `digits` being 0, for digits from 1 on; 0 for none.
double power(int digit, int digits) {
  return digit == 0 ? 0 : std::ldexp(1.0, base_bits * (digit - digits / 2));
}

/// The largest digit whose power is in the sum.
int largest_digit(double sum, int digits) {
  if (!(sum > 0)) {
    return 0;
  }
  const int exponent = std::ilogb(sum) + base_bits * (digits / 2);
  return exponent / base_bits;
}

int exponent_of(double value) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return exponent;
}

int in_range(int window) {
  return std::clamp(window, kernels::least_window, kernels::most_window);
}

/// `value` in units, with the halves in order.
Integer carried(Integer value) {
  value.high += value.low >> 32;
  value.low &= 0xFFFFFFFF;
  return value;
}

void append(std::vector<double>& message, Integer value) {
  value = carried(value);
  message.push_back(static_cast<double>(value.high));
  message.push_back(static_cast<double>(value.low));
}

double in_units(double high, double low, int window, int bits) {
  return std::ldexp(std::fma(high, half, low), window - bits);
}

double value_of(const FixedPointSum& sum, int window) {
  const auto one = [&](Integer value, int bits) {
    value = carried(value);
    return in_units(static_cast<double>(value.high), static_cast<double>(value.low), window, bits);
  };
  return one(sum.coarse, kernels::unit_bits) + one(sum.fine, 2 * kernels::unit_bits);
}

std::size_t at(std::int64_t c) {
  return static_cast<std::size_t>(c);
}

double canonical(double special) {
  return std::isnan(special) ? std::numeric_limits<double>::quiet_NaN() : special;
}

}  // namespace

CountLimbs count_exactly(const ConstTensorView& x, Weight weight) {
  constexpr int smallest = 149;  // 2^-149 is the smallest float
  std::array<std::int64_t, words_of_count> limbs{};
  const auto add = [&](std::uint64_t mantissa, int place) {  // of up to 24 bits
    const std::uint64_t shifted = mantissa << (place % 32);
    limbs[static_cast<std::size_t>(place / 32)] += static_cast<std::int64_t>(shifted & 0xFFFFFFFF);
    limbs[static_cast<std::size_t>(place / 32) + 1] += static_cast<std::int64_t>(shifted >> 32);
  };
  const auto carry = [&] {
    for (std::size_t i = 0; i + 1 < limbs.size(); ++i) {
      limbs[i + 1] += limbs[i] >> 32;
      limbs[i] &= 0xFFFFFFFF;
    }
  };
  if (weight.empty()) {
    const auto positions = static_cast<std::uint64_t>(x.shape().per_channel());
    for (int bit = 0; bit < 64; bit += 24) {
      add(positions >> bit & 0xFFFFFF, smallest + bit);
    }
  }
  constexpr std::size_t between_carries = std::size_t{1} << 30;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(weight[i]);
    const std::uint32_t exponent = bits >> 23 & 0xFF;
    const std::uint32_t fraction = bits & 0x7FFFFF;
    if (exponent == 0) {
      add(fraction, 0);
    } else {
      add(fraction | 0x800000, static_cast<int>(exponent) - 1);
    }
    if (i % between_carries == between_carries - 1) {
      carry();
    }
  }
  carry();
  CountLimbs result{};
  std::ranges::transform(limbs, result.begin(),
                         [](std::int64_t limb) { return static_cast<double>(limb); });
  return result;
}

double to_count(const CountLimbs& limbs) {
  std::int64_t carry = 0;
  CountLimbs carried_limbs{};
  for (std::size_t i = 0; i < limbs.size(); ++i) {
    const std::int64_t limb = static_cast<std::int64_t>(limbs[i]) + carry;
    carry = limb >> 32;
    carried_limbs[i] = static_cast<double>(limb & 0xFFFFFFFF);
  }
  double count = 0;
  for (std::size_t i = limbs.size(); i-- > 0;) {
    count += std::ldexp(carried_limbs[i], 32 * static_cast<int>(i) - 149);
  }
  return count;
}

ExactWorkspace::ExactWorkspace(std::int64_t channels) {
  const std::size_t c = at(channels);
  for (auto* exponents : {&first_window, &second_window, &first_exponent, &second_exponent,
                          &largest_exponent, &gradient_exponent}) {
    exponents->assign(c, unknown);
  }
  known.resize(c);
  first.resize(c);
  second.resize(c);
  outside.resize(c);
  again.resize(c);
  for (auto* values : {&largest, &first_magnitude, &second_magnitude, &first_own_special,
                       &second_own_special, &first_special, &second_special}) {
    values->assign(c, 0);
  }
  var.assign(c, -1);
}

kernels::FixedPoint ExactPass::fixed_point() {
  return {.first_window = exact_.first_window.data(),
          .second_window = exact_.second_window.data(),
          .first = exact_.first.data(),
          .second = exact_.second.data(),
          .largest = exact_.backward ? exact_.largest.data() : nullptr,
          .outside = exact_.outside.data()};
}

kernels::Magnitudes ExactPass::magnitudes() {
  return {.first = exact_.first_magnitude.data(),
          .second = exact_.second_magnitude.data(),
          .first_special = exact_.first_own_special.data(),
          .second_special = exact_.second_own_special.data()};
}

bool ExactPass::any_known(const ChannelRange& channels) const {
  const auto begin = exact_.known.begin();
  return std::any_of(begin + channels.begin, begin + channels.end,
                     [](std::uint8_t known) { return known != 0; });
}

void ExactPass::mark_unknown(const ChannelRange& channels) {
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    if (exact_.known[c] == 0) {
      exact_.outside[c] = 1;
    }
  }
}

void ExactPass::pack(const ChannelRange& channels, double wish,
                     std::vector<double>& message) const {
  message.clear();
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const std::size_t begin = message.size();
    append(message, exact_.first[c].coarse);
    append(message, exact_.second[c].coarse);
    if (exact_.fine) {
      append(message, exact_.first[c].fine);
      append(message, exact_.second[c].fine);
    }
    const bool is_special = exact_.first_special[c] != 0 || exact_.second_special[c] != 0;
    if (exact_.outside[c] != 0 && !is_special) {
      message[begin] = std::numeric_limits<double>::quiet_NaN();
    }
    if (exact_.backward) {
      const int below = exact_.first_window[c] - exponent_of(exact_.largest[c]);
      const bool counts = exact_.largest[c] > 0 && exact_.outside[c] == 0;
      message.push_back(power(counts ? std::max(largest_steps - below, 1) : 0, largest_steps));
    }
  }
  message.insert(message.end(), exact_.count.begin(), exact_.count.end());
  message.push_back(wish);
}

double ExactPass::unpack(const ChannelRange& channels, const std::vector<double>& message) {
  const std::size_t all = working_.sums.size() / 2;
  const double* word = message.data();
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    exact_.again[c] = std::isnan(word[0]) ? 1 : 0;
    working_.sums[c] = in_units(word[0], word[1], exact_.first_window[c], kernels::unit_bits);
    working_.sums[all + c] =
        in_units(word[2], word[3], exact_.second_window[c], kernels::unit_bits);
    word += 4;
    if (exact_.fine) {
      constexpr int bits = 2 * kernels::unit_bits;
      working_.sums[c] += in_units(word[0], word[1], exact_.first_window[c], bits);
      working_.sums[all + c] += in_units(word[2], word[3], exact_.second_window[c], bits);
      word += 4;
    }
    if (exact_.backward) {
      const int digit = largest_digit(*word++, largest_steps);
      exact_.largest_exponent[c] =
          digit == 0 ? ExactWorkspace::unknown : exact_.first_window[c] + digit - largest_steps;
    }
    if (exact_.first_special[c] != 0) {
      working_.sums[c] = exact_.first_special[c];
    }
    if (exact_.second_special[c] != 0) {
      working_.sums[all + c] = exact_.second_special[c];
    }
  }
  CountLimbs count;
  std::copy_n(word, count.size(), count.begin());
  working_.sums.back() = to_count(count);
  return message.back();
}

void ExactPass::keep(const ChannelRange& channels) {
  pack(channels, 0, message_);
  unpack(channels, message_);
}

void ExactPass::exchange_message() {
  if (group_.size() > 1) {
    group_.exchange(what_, message_);
  }
}

void ExactPass::exchange(const ChannelRange& channels) {
  pack(channels, 0, message_);
  exchange_message();
  unpack(channels, message_);
}

void ExactPass::find_exponents(const ChannelRange& channels) {
  std::vector<int>& first = exact_.first_exponent;
  std::vector<int>& second = exact_.second_exponent;
  // Counted from 1 on; 0 for no term other than 0.
  const auto number = [&](double magnitude) {
    return magnitude > 0 && std::isfinite(magnitude) ? exponent_of(magnitude) - least_exponent : 0;
  };
  const auto coarse = [](int of) { return of == 0 ? 0 : of / fine_exponents + 1; };
  const auto fine = [](int of) { return of % fine_exponents + 1; };
  message_.clear();
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const bool wanted = exact_.again[c] != 0;
    const auto digit = [&](double magnitude) {
      return power(wanted ? coarse(number(magnitude)) : 0, coarse_exponents);
    };
    message_.insert(
        message_.end(),
        {digit(exact_.first_magnitude[c]), digit(exact_.second_magnitude[c]),
         wanted ? exact_.first_own_special[c] : 0, wanted ? exact_.second_own_special[c] : 0});
  }
  exchange_message();
  const double* word = message_.data();
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c, word += 4) {
    first[c] = largest_digit(word[0], coarse_exponents);
    second[c] = largest_digit(word[1], coarse_exponents);
    if (exact_.again[c] != 0) {
      exact_.first_special[c] = canonical(word[2]);
      exact_.second_special[c] = canonical(word[3]);
    }
  }
  message_.clear();
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const auto digit = [&](double magnitude, int largest) {
      const bool is_largest = largest != 0 && coarse(number(magnitude)) == largest;
      return power(is_largest ? fine(number(magnitude)) : 0, fine_exponents);
    };
    message_.push_back(digit(exact_.first_magnitude[c], first[c]));
    message_.push_back(digit(exact_.second_magnitude[c], second[c]));
  }
  exchange_message();
  word = message_.data();
  const auto exponent = [&](int coarse_digit, double sum) {
    return coarse_digit == 0 ? ExactWorkspace::unknown
                             : (coarse_digit - 1) * fine_exponents +
                                   largest_digit(sum, fine_exponents) - 1 + least_exponent;
  };
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c, word += 2) {
    first[c] = exponent(first[c], word[0]);
    second[c] = exponent(second[c], word[1]);
  }
}

void ExactPass::fit_windows(const ChannelRange& channels) {
  find_exponents(channels);
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    if (exact_.again[c] == 0) {
      continue;
    }
    // One more than the exponent: room for a term that is rounded up, or otherwise than magnitudes.
    const auto fit = [](int exponent) {
      return exponent == ExactWorkspace::unknown ? 0 : in_range(exponent + 1);
    };
    exact_.first_window[c] = fit(exact_.first_exponent[c]);
    exact_.second_window[c] = fit(exact_.second_exponent[c]);
    exact_.known[c] = 1;
    if (exact_.second_exponent[c] >= kernels::most_window) {  // too large to be counted
      exact_.second_special[c] = std::numeric_limits<double>::infinity();
    }
  }
}

// --- forward ---------------------------------------------------------------------------------

void ExactForward::choose_windows(std::span<const double> var) {
  for (std::size_t c = 0; c < pivot_.size(); ++c) {
    exact_.first_special[c] = exact_.second_special[c] = 0;
    // A float may be that far from the mean.
    const double rounding = 0x1p-22 * std::fabs(static_cast<double>(pivot_[c]));
    const double width = std::max(std::ldexp(std::sqrt(var[c] + eps_), deviations), rounding);
    exact_.known[c] = var[c] >= 0 && std::isfinite(width) && width > 0 ? 1 : 0;
    exact_.first_window[c] = exact_.known[c] != 0 ? in_range(exponent_of(width)) : 0;
    exact_.second_window[c] = exact_.known[c] != 0 ? in_range(2 * exponent_of(width)) : 0;
  }
}

kernels::ForwardSums ExactForward::arguments(const ChannelRange& channels) const {
  return {.x = x_,
          .channels = channels,
          .weight = weight_.empty() ? nullptr : weight_.data(),
          .pivot = pivot_.data(),
          .sum = nullptr,
          .sum_sq = nullptr};
}

void ExactForward::sum(const ChannelRange& channels) {
  if (any_known(channels)) {
    kernels::select(backend_).forward_in_fixed_point(arguments(channels), fixed_point(),
                                                     {.scratch = working_.scratch});
  }
  mark_unknown(channels);
}

bool ExactForward::needs_another(std::size_t c, bool is_last) const {
  const double n = working_.sums.back();
  if (exact_.again[c] != 0) {
    return !is_last;
  }
  if (!(n > 0) || exact_.first_special[c] != 0 || exact_.second_special[c] != 0) {
    return false;
  }
  const int bits = exact_.fine ? 2 * kernels::unit_bits : kernels::unit_bits;
  const double first_unit = std::ldexp(1.0, exact_.first_window[c] - bits);
  const double second_unit = std::ldexp(1.0, exact_.second_window[c] - bits);
  const double offset = std::fabs(working_.sums[c] / n);
  const double var = std::max(0.0, working_.sums[pivot_.size() + c] / n - offset * offset);
  const bool another_is_nearer = offset > 0x1p-22 * std::fabs(static_cast<double>(pivot_[c]));
  const double tolerance = exact_.fine ? 1e-14 : 0x1p-25;
  const double error =
      second_unit / 2 + offset * first_unit + (another_is_nearer ? 0x1p-52 * offset * offset : 0);
  if (error <= tolerance * (var + eps_)) {
    return false;
  }
  // Windows that fit already become narrower only about a pivot that is much nearer.
  return !is_last || (another_is_nearer && offset > std::ldexp(1.0, exact_.first_window[c] - 4));
}

bool ExactForward::settle(const ChannelRange& channels) {
  constexpr int most = 2;
  for (int time = 0; time < most; ++time) {
    bool any = false;
    for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
      const bool was_outside = exact_.again[c] != 0;
      exact_.again[c] = needs_another(c, time > 0) ? 1 : 0;
      any = any || exact_.again[c] != 0;
      if (exact_.again[c] != 0 && !was_outside) {
        const auto channel = static_cast<std::int64_t>(c);
        move_pivot_to_mean({channel, channel + 1}, working_.sums, pivot_);
      }
    }
    if (!any) {
      return time > 0;
    }
    kernels::select(backend_).forward_magnitudes(arguments(channels), magnitudes(),
                                                 {.scratch = working_.scratch});
    fit_windows(channels);
    sum(channels);
    exchange(channels);
  }
  return true;
}

// --- backward --------------------------------------------------------------------------------

void ExactBackward::choose_windows() {
  const Statistics& statistics = context_.statistics;
  for (std::size_t c = 0; c < exact_.first_window.size(); ++c) {
    exact_.first_special[c] = exact_.second_special[c] = 0;
    const double invstd = statistics.invstd[c];
    const double deviation = invstd > 0 ? 1 / invstd : std::fabs(0x1p-24 * statistics.mean[c]);
    const bool known =
        exact_.gradient_exponent[c] != ExactWorkspace::unknown && std::isfinite(deviation);
    const int window = exact_.gradient_exponent[c] + gradients;
    const int of_products = window + exponent_of(deviation) + deviations_of_products;
    exact_.known[c] = known ? 1 : 0;
    exact_.first_window[c] = known ? in_range(window) : 0;
    exact_.second_window[c] = known ? in_range(of_products) : 0;
  }
}

void ExactBackward::sum(const ChannelRange& channels) {
  if (any_known(channels)) {
    kernels::select(backend_).backward_in_fixed_point(
        {.upstream = upstream_of(context_, channels, working_),
         .channels = channels,
         .sum_dz = nullptr,
         .sum_dz_x = nullptr},
        fixed_point(), {.scratch = working_.scratch});
  }
  mark_unknown(channels);
  take_own(channels);
}

void ExactBackward::take_own(const ChannelRange& channels) {
  const std::size_t all = exact_.first.size();
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const auto own = [&](double special, double of_group, const FixedPointSum& sum, int window) {
      return of_group != 0 && special != 0 ? special : value_of(sum, window);
    };
    working_.own_sums[c] = own(exact_.first_own_special[c], exact_.first_special[c],
                               exact_.first[c], exact_.first_window[c]);
    working_.own_sums[all + c] = own(exact_.second_own_special[c], exact_.second_special[c],
                                     exact_.second[c], exact_.second_window[c]);
  }
}

void ExactBackward::settle(const ChannelRange& channels) {
  bool any = false;
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const int exponent = exact_.largest_exponent[c];
    const bool too_wide =
        exponent != ExactWorkspace::unknown && exact_.first_window[c] - exponent > widest;
    exact_.again[c] = exact_.again[c] != 0 || too_wide ? 1 : 0;
    any = any || exact_.again[c] != 0;
  }
  if (any) {
    kernels::select(backend_).backward_magnitudes(
        {.upstream = upstream_of(context_, channels, working_),
         .channels = channels,
         .sum_dz = nullptr,
         .sum_dz_x = nullptr},
        magnitudes(), {.scratch = working_.scratch});
    fit_windows(channels);
    for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
      // Lanes without an element say NaN then, and how many there are is no property of the batch.
      if (exact_.again[c] != 0 && !std::isfinite(context_.statistics.mean[c])) {
        exact_.second_special[c] = std::numeric_limits<double>::quiet_NaN();
      }
    }
    sum(channels);
    exchange(channels);
  }
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const bool is_special = exact_.first_special[c] != 0 || exact_.second_special[c] != 0;
    if (exact_.largest_exponent[c] != ExactWorkspace::unknown && !is_special) {
      exact_.gradient_exponent[c] = exact_.largest_exponent[c];
    }
  }
}

}  // namespace syncbn::bn
