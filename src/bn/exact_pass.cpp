// SPDX-License-Identifier: Apache-2.0
#include "bn/exact_pass.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace syncbn::bn {
namespace {

using kernels::Integer;

constexpr double half = 0x1p32;  ///< of an Integer

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

std::size_t at(std::int64_t c) {
  return static_cast<std::size_t>(c);
}

double canonical(double special) {
  return std::isnan(special) ? std::numeric_limits<double>::quiet_NaN() : special;
}

}  // namespace

double value_of(const kernels::FixedPointSum& sum, int window) {
  const auto one = [&](Integer value, int bits) {
    value = carried(value);
    return in_units(static_cast<double>(value.high), static_cast<double>(value.low), window, bits);
  };
  return one(sum.coarse, kernels::unit_bits) + one(sum.fine, 2 * kernels::unit_bits);
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

}  // namespace syncbn::bn
