// SPDX-License-Identifier: Apache-2.0
#include "bn/exact_pass.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/windows.hpp"

namespace syncbn::bn {
namespace {

using kernels::carried;
using kernels::Digits;
using kernels::in_units;
using kernels::Integer;

constexpr int fine_exponents = 32;
constexpr Digits fine_digits{20, fine_exponents};
constexpr Digits coarse_digits{20, 69};  ///< 69 * 32 numbers cover all exponents

void append(std::vector<double>& message, Integer value) {
  value = carried(value);
  message.push_back(static_cast<double>(value.high));
  message.push_back(static_cast<double>(value.low));
}

}  // namespace

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
      const double largest = exact_.outside[c] == 0 ? exact_.largest[c] : 0;
      message.push_back(kernels::largest_to_power(largest, exact_.first_window[c]));
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
      exact_.largest_exponent[c] = kernels::largest_exponent(*word++, exact_.first_window[c]);
    }
    if (exact_.first_special[c] != 0) {
      working_.sums[c] = exact_.first_special[c];
    }
    if (exact_.second_special[c] != 0) {
      working_.sums[all + c] = exact_.second_special[c];
    }
  }
  CountWords count;
  std::copy_n(word, count.size(), count.begin());
  working_.sums.back() = to_count(count);
  exact_.terms = to_terms(count);
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
  const auto number = kernels::exponent_number;
  const auto coarse = [](int of) { return of == 0 ? 0 : of / fine_exponents + 1; };
  const auto fine = [](int of) { return of % fine_exponents + 1; };
  message_.clear();
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const bool wanted = exact_.again[c] != 0;
    const auto digit = [&](double magnitude) {
      return coarse_digits.power(wanted ? coarse(number(magnitude)) : 0);
    };
    message_.insert(
        message_.end(),
        {digit(exact_.first_magnitude[c]), digit(exact_.second_magnitude[c]),
         wanted ? exact_.first_own_special[c] : 0, wanted ? exact_.second_own_special[c] : 0});
  }
  exchange_message();
  const double* word = message_.data();
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c, word += 4) {
    first[c] = coarse_digits.largest(word[0]);
    second[c] = coarse_digits.largest(word[1]);
    if (exact_.again[c] != 0) {
      exact_.first_special[c] = kernels::canonical(word[2]);
      exact_.second_special[c] = kernels::canonical(word[3]);
    }
  }
  message_.clear();
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const auto digit = [&](double magnitude, int largest) {
      const bool is_largest = largest != 0 && coarse(number(magnitude)) == largest;
      return fine_digits.power(is_largest ? fine(number(magnitude)) : 0);
    };
    message_.push_back(digit(exact_.first_magnitude[c], first[c]));
    message_.push_back(digit(exact_.second_magnitude[c], second[c]));
  }
  exchange_message();
  word = message_.data();
  const auto exponent = [&](int coarse_digit, double sum) {
    return coarse_digit == 0 ? kernels::no_exponent
                             : (coarse_digit - 1) * fine_exponents + fine_digits.largest(sum) - 1 +
                                   kernels::least_exponent;
  };
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c, word += 2) {
    first[c] = exponent(first[c], word[0]);
    second[c] = exponent(second[c], word[1]);
  }
}

}  // namespace syncbn::bn
