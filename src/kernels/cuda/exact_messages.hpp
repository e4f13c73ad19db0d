// SPDX-License-Identifier: Apache-2.0
#pragma once

// These kernels write the messages of exact sums from what a rank has tallied, and read the
// group's. Messages are [words, C]; behind the sums comes the count.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/host_device.hpp"

#include "kernels/cuda/exact.hpp"
#include "kernels/cuda/exact_windows.hpp"
#include "kernels/cuda/tallies.hpp"
#include "kernels/statistics.hpp"

namespace syncbn::kernels::cuda {

/// An OwnTally is what this rank has tallied of a channel.
struct OwnTally {
  FixedPointSum first;
  FixedPointSum second;
  double largest;
  bool outside;

  SYNCBN_HOST_DEVICE OwnTally(const TalliedPass& pass, std::int64_t c) {
    const ExactChannels& of = pass.of;
    const auto word = [&](int k) { return of.tallies[k * of.channels + c]; };
    const auto integer = [&](int k) {
      return Integer{static_cast<std::int64_t>(word(k)), static_cast<std::int64_t>(word(k + 1))};
    };
    first = {integer(0), integer(4)};
    second = {integer(2), integer(6)};
    largest = std::bit_cast<double>(word(tally_words - 1));
    outside = word(tally_words - 1) == ~std::uint64_t{0} ||
              (pass.backward && !(largest < std::ldexp(1.0, of.first_window[c])));
  }
};

struct SumsPacking {
  TalliedPass pass;
  double* message;

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
    int k = 0;
    put(c, k, own.first.coarse);
    put(c, k, own.second.coarse);
    if (pass.fine) {
      put(c, k, own.first.fine);
      put(c, k, own.second.fine);
    }
    if (own.outside && !is_special) {
      message[c] = std::numeric_limits<double>::quiet_NaN();
    }
    if (pass.backward) {
      message[k * pass.of.channels + c] =
          largest_to_power(own.outside ? 0 : own.largest, pass.of.first_window[c]);
    }
  }

 private:
  SYNCBN_HOST_DEVICE void put(std::int64_t c, int& k, Integer value) const {
    value = carried(value);
    message[k++ * pass.of.channels + c] = static_cast<double>(value.high);
    message[k++ * pass.of.channels + c] = static_cast<double>(value.low);
  }
};

/// A GroupSums is the group's sums of a channel, as its message has them.
struct GroupSums {
  double first;
  double second;
  double powers;  ///< a backward's: added powers that tell the largest |dz|
  bool outside;

  SYNCBN_HOST_DEVICE GroupSums(const TalliedPass& pass, const double* message, std::int64_t c) {
    const ExactChannels& of = pass.of;
    const auto word = [&](int k) { return message[k * of.channels + c]; };
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

SYNCBN_HOST_DEVICE inline const double* count_words_of(const TalliedPass& pass,
                                                       const double* message) {
  return message + pass.words() - count_words;
}
SYNCBN_HOST_DEVICE inline double count_of(const TalliedPass& pass, const double* message) {
  return to_count(count_words_of(pass, message));
}

/// Makes a channel wanted if its sums are to be taken again, and clears its magnitudes then.
SYNCBN_HOST_DEVICE inline void want(const ExactChannels& of, std::int64_t c, bool again) {
  of.wanted[c] = again ? 1 : 0;
  for (int k = 0; k < magnitude_words && again; ++k) {
    of.magnitudes[k * of.channels + c] = 0;
  }
}

struct ForwardSettlement : SettleForward {
  SYNCBN_HOST_DEVICE void once() const { sums[2 * pass.of.channels] = count_of(pass, message); }

  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const GroupSums of(pass, message, c);
    sums[c] = of.first;
    sums[pass.of.channels + c] = of.second;
    if (round + 1 == rounds) {
      return;
    }
    const bool fitted = round > 0;
    const bool is_special = pass.of.first_special[c] != 0 || pass.of.second_special[c] != 0;
    const Windows windows{pass.of.first_window[c], pass.of.second_window[c], true};
    const ForwardTotals totals{.sum = of.first,
                               .sum_sq = of.second,
                               .count = count_of(pass, message),
                               .terms = count_words_of(pass, message)[terms_word]};
    if (of.outside) {
      want(pass.of, c, !fitted);
      return;
    }
    const bool again =
        !is_special && is_too_coarse(totals, windows, pivot[c], eps, pass.fine, fitted);
    want(pass.of, c, again);
    if (again) {
      pivot[c] = nearest_pivot(of.first / totals.count, pivot[c], pass.fine);
    }
  }
};

struct BackwardSettlement : SettleBackward {
  SYNCBN_HOST_DEVICE void once() const { sums[2 * pass.of.channels] = count_of(pass, message); }

  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const ExactChannels& of = pass.of;
    const GroupSums group(pass, message, c);
    const int exponent = largest_exponent(group.powers, of.first_window[c]);
    if (round + 1 < rounds) {
      want(of, c, group.outside || is_too_wide(of.first_window[c], exponent));
      return;
    }
    const bool is_special = of.first_special[c] != 0 || of.second_special[c] != 0;
    if (exponent != no_exponent && !is_special) {
      of.gradient_exponent[c] = exponent;
    }
    const OwnTally own(pass, c);
    sums[c] = group.first;
    sums[of.channels + c] = group.second;
    own_sums[c] = own_sum(c, 0, of.first_special[c], own.first, of.first_window[c]);
    own_sums[of.channels + c] =
        own_sum(c, 1, of.second_special[c], own.second, of.second_window[c]);
  }

 private:
  SYNCBN_HOST_DEVICE double own_sum(std::int64_t c, int field, double of_group,
                                    const FixedPointSum& sum, int window) const {
    const std::uint64_t mark = pass.of.magnitudes[(magnitude_words - 1) * pass.of.channels + c];
    const double special = of_group != 0 ? special_of(mark, field) : 0;
    return special != 0 ? special : value_of(sum, window);
  }
};

struct ExponentsPacking {
  TalliedPass pass;
  ExponentCode code;
  double* message;

  SYNCBN_HOST_DEVICE void once() const {}
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const ExactChannels& of = pass.of;
    const bool wanted = of.wanted[c] != 0;
    for (int field = 0; field < 2; ++field) {
      const auto magnitude = std::bit_cast<double>(of.magnitudes[field * of.channels + c]);
      const int number = wanted ? exponent_number(magnitude) : 0;
      const int of_word = number == 0 ? -1 : (number - 1) / code.digits.count;
      for (int k = 0; k < code.words; ++k) {
        const int digit = k == of_word ? (number - 1) % code.digits.count + 1 : 0;
        message[(field * code.words + k) * of.channels + c] = code.digits.power(digit);
      }
      const std::uint64_t mark = of.magnitudes[(magnitude_words - 1) * of.channels + c];
      message[(2 * code.words + field) * of.channels + c] = wanted ? special_of(mark, field) : 0;
    }
  }
};

template <class Launcher>
void run_pack_sums(const TalliedPass& pass, double* message, const Launcher& launch) {
  for_each_channel(SumsPacking{pass, message}, launch, "packing exact sums");
}
template <class Launcher>
void run_settle(const SettleForward& arguments, const Launcher& launch) {
  for_each_channel(ForwardSettlement{arguments}, launch, "settling exact sums");
}
template <class Launcher>
void run_settle(const SettleBackward& arguments, const Launcher& launch) {
  for_each_channel(BackwardSettlement{arguments}, launch, "settling exact sums");
}
template <class Launcher>
void run_pack_exponents(const TalliedPass& pass, const ExponentCode& code, double* message,
                        const Launcher& launch) {
  for_each_channel(ExponentsPacking{pass, code, message}, launch, "packing exponents");
}

}  // namespace syncbn::kernels::cuda
