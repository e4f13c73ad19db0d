// SPDX-License-Identifier: Apache-2.0
#pragma once

// These steps write the messages of exact sums from what a rank has tallied, and read the group's.
// Each message is an array of [words, channels of the range]:
//
//   sums        first high, first low, second high, second low; f64: the same in finer units;
//               backward: largest |dz|. Behind them comes the count, [count_words].
//   exponents   exponents of the largest first term [w] and second term [w], special values [2]
//
// On the wire an integer of up to 2^84 is two doubles, its high and its low half. Doubles add
// integers below 2^53 exactly in any order: this holds for up to 2^20 ranks and 2^34 elements per
// channel, whatever the elements are. A rank with a term outside of its window sends a NaN in place
// of the first sum's high half. w is the number of doubles in which one largest exponent travels
// (ExponentCode::words): 2 for one rank, 5 for 8, 12 for 1024. Infinities and NaNs add up to what
// IEEE 754 makes of them, in any order.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/host_device.hpp"

#include "channels/exact_channels.hpp"
#include "channels/exponents.hpp"
#include "channels/windows.hpp"

namespace syncbn::channels {

/// What this rank has tallied of a channel.
struct OwnTally {
  FixedPointSum first;
  FixedPointSum second;
  double largest;
  bool outside;

  SYNCBN_HOST_DEVICE OwnTally(const ExactPass& pass, std::int64_t c) {
    const auto integer = [&](int k) {
      return Integer{static_cast<std::int64_t>(pass.of.tally(k, c)),
                     static_cast<std::int64_t>(pass.of.tally(k + 1, c))};
    };
    first = {integer(0), integer(4)};
    second = {integer(2), integer(6)};
    const std::uint64_t mark = pass.of.tally(tally_words - 1, c);
    largest = std::bit_cast<double>(mark);
    outside =
        mark == outside_mark || (pass.backward && !(largest < power_of_2(pass.of.first_window[c])));
  }
};

/// Writes the message of sums.
struct PackSums {
  ExactPass pass;
  double* message;

  SYNCBN_HOST_DEVICE ChannelRange channels() const { return pass.range; }
  SYNCBN_HOST_DEVICE void once() const {
    std::int64_t limbs[count_words];
    for (int i = 0; i < count_words; ++i) {
      limbs[i] = pass.of.count[i];
    }
    carry(limbs);
    double* to = message + pass.words() - count_words;
    for (int i = 0; i < count_words; ++i) {
      to[i] = static_cast<double>(limbs[i]);
    }
  }
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const OwnTally own(pass, c);
    const bool is_special = pass.of.first_special[c] != 0 || pass.of.second_special[c] != 0;
    double* to = message + (c - pass.range.begin);
    const auto put = [&](double value) {
      *to = value;
      to += pass.range.size();
    };
    const auto put_integer = [&](Integer value, bool outside) {
      value = carried(value);
      put(outside ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(value.high));
      put(static_cast<double>(value.low));
    };
    put_integer(own.first.coarse, own.outside && !is_special);
    put_integer(own.second.coarse, false);
    if (pass.fine) {
      put_integer(own.first.fine, false);
      put_integer(own.second.fine, false);
    }
    if (pass.backward) {
      put(largest_to_power(own.outside ? 0 : own.largest, pass.of.first_window[c]));
    }
  }
};

/// The group's sums of a channel, as its message has them.
struct GroupSums {
  double first;
  double second;
  double powers;  ///< a backward's: added powers that tell the largest |dz|
  bool outside;

  SYNCBN_HOST_DEVICE GroupSums(const ExactPass& pass, const double* message, std::int64_t c) {
    const ExactChannels& of = pass.of;
    const auto word = [&](int k) {
      return message[k * pass.range.size() + (c - pass.range.begin)];
    };
    const auto sum = [&](int k, int window, int bits) {
      return in_units(word(k), word(k + 1), window, bits);
    };
    outside = std::isnan(word(0));
    first = sum(0, of.first_window[c], unit_bits);
    second = sum(2, of.second_window[c], unit_bits);
    if (pass.fine) {
      first += sum(4, of.first_window[c], 2 * unit_bits);
      second += sum(6, of.second_window[c], 2 * unit_bits);
    }
    powers = pass.backward ? word(pass.fine ? 8 : 4) : 0;
    if (of.first_special[c] != 0) {
      first = of.first_special[c];
    }
    if (of.second_special[c] != 0) {
      second = of.second_special[c];
    }
  }
};

/// The group's count, as its message of sums has it.
struct GroupCount {
  double weights;  ///< their sum
  double terms;    ///< how many of them are not 0

  SYNCBN_HOST_DEVICE GroupCount(const ExactPass& pass, const double* message) {
    const double* words = message + pass.words() - count_words;
    weights = to_count(words);
    terms = words[terms_word];
  }
};

/// Writes the message of exponents, which tells the magnitudes of the wanted channels.
struct PackExponents {
  ExactPass pass;
  ExponentCode code;
  double* message;

  SYNCBN_HOST_DEVICE ChannelRange channels() const { return pass.range; }
  SYNCBN_HOST_DEVICE void once() const {}
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const ExactChannels& of = pass.of;
    const bool wanted = of.wanted[c] != 0;
    const auto put = [&](int k, double value) {
      message[k * pass.range.size() + (c - pass.range.begin)] = value;
    };
    for (int field = 0; field < 2; ++field) {
      const auto magnitude = std::bit_cast<double>(of.magnitude(field, c));
      const int number = wanted ? exponent_number(magnitude) : 0;
      const int of_word = number == 0 ? -1 : (number - 1) / code.digits.count;
      for (int k = 0; k < code.words; ++k) {
        const int digit = k == of_word ? (number - 1) % code.digits.count + 1 : 0;
        put(field * code.words + k, code.digits.power(digit));
      }
      const double special = special_of(of.magnitude(magnitude_words - 1, c), field);
      put(2 * code.words + field, wanted ? special : 0);
    }
  }
};

/// The group's largest terms of a channel, as its message of exponents has them.
struct GroupExponents {
  int first;
  int second;
  double first_special;   ///< what the infinities and NaNs of the first sum add up to; 0: none
  double second_special;  ///< the same of the second sum

  SYNCBN_HOST_DEVICE GroupExponents(const ExactPass& pass, const ExponentCode& code,
                                    const double* message, std::int64_t c) {
    const auto word = [&](int k) {
      return message[k * pass.range.size() + (c - pass.range.begin)];
    };
    const auto exponent = [&](int begin) {
      for (int k = code.words; k-- > 0;) {
        const int digit = code.digits.largest(word(begin + k));
        if (digit > 0) {
          return k * code.digits.count + digit + least_exponent;
        }
      }
      return no_exponent;
    };
    first = exponent(0);
    second = exponent(code.words);
    first_special = canonical(word(2 * code.words));
    second_special = canonical(word(2 * code.words + 1));
  }
};

}  // namespace syncbn::channels
