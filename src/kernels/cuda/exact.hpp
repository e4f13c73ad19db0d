// SPDX-License-Identifier: Apache-2.0
#pragma once

// Exact sums on a CUDA device: the steps of bn/exact_sums.hpp, with all that they decide decided
// there, as the host does not wait to see it.
//
//   choose_windows -> tally -> pack_sums -> (added over the group) -> settle, which finds the
//   channels whose sums are to be taken again, and for these as often as it may be necessary
//   tally_magnitudes -> pack_exponents -> (added) -> fit_windows -> tally -> pack_sums -> (added)
//   -> settle
//
// Blocks in which no channel is wanted return at once. As in cuda.hpp: pointers are of
// device memory, work is put on `stream`, DeviceError is thrown if it cannot be launched.
//
// Integers are added in whatever order blocks come in, and what is computed of them is computed as
// on the host (kernels/windows.hpp): the same bits as there, of backend cpu with fused
// multiplication and addition.

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/count_limbs.hpp"
#include "kernels/cuda/cuda.hpp"
#include "kernels/windows.hpp"

namespace syncbn::kernels::cuda {

/// Words of a rank's tally of a channel: halves of the first and of the second sum, likewise in
/// finer units, and the mark: the bits of the largest |dz|, or all ones if a term was outside of
/// its window.
inline constexpr int tally_words = 9;
/// Of magnitudes: bits of the largest term of either sum, and which special values there were.
inline constexpr int magnitude_words = 3;

/// What is kept of every channel, in arrays of [C], or [words, C].
struct ExactChannels {
  std::int64_t channels;
  int* first_window;       ///< of the pass under way
  int* second_window;      ///< likewise
  int* wanted;             ///< 1 where the next tally has something to do
  std::uint64_t* tallies;  ///< [tally_words, C] of this rank
  std::uint64_t*
      magnitudes;          ///< [magnitude_words, C] of this rank, where the last ones were wanted
  std::int64_t* count;     ///< [count_words] of this rank
  double* first_special;   ///< the group's infinities and NaNs; 0: none
  double* second_special;  ///< likewise
  int* gradient_exponent;  ///< of the last backward's
  double* var;             ///< of the last batch; negative: none yet
};

/// Doubles of a message of sums. `fine`: f64.
SYNCBN_HOST_DEVICE constexpr std::int64_t sums_words(std::int64_t channels, bool backward,
                                                     bool fine) {
  return channels * ((fine ? 8 : 4) + (backward ? 1 : 0)) + count_words;
}

/// Which pass it is, and of what.
struct TalliedPass {
  ExactChannels of;
  bool backward;
  bool fine;  ///< f64

  SYNCBN_HOST_DEVICE std::int64_t words() const { return sums_words(of.channels, backward, fine); }
};

/// How largest exponents travel: in `words` doubles, each for digits.count of them.
struct ExponentCode {
  Digits digits;
  int words;

  SYNCBN_HOST_DEVICE std::int64_t message_words(std::int64_t channels) const {
    return channels * 2 * (words + 1);
  }
};
/// For so many ranks, below 2^20.
ExponentCode exponent_code(int ranks);

/// Words of the number of elements of a channel, where there are no weights.
std::array<std::int64_t, count_words> limbs_of(std::int64_t positions);

/// For the first tally of a pass; sets the count to `limbs`, 0 for weights that are counted next.
struct ChooseForward {
  TalliedPass pass;
  std::array<std::int64_t, count_words> limbs;
  /// Null, or what the pivot and the variance follow from in a layer's first forward, and in that
  /// after a load; else they are what the last one left.
  const double* running_mean;
  const double* running_var;
  const std::int64_t* batches;
  double momentum;  ///< 1 for a cumulative average
  double eps;
  double* pivot;  ///< [C]
};
void choose_windows(const ChooseForward& arguments, Stream stream);
struct ChooseBackward {
  TalliedPass pass;
  std::array<std::int64_t, count_words> limbs;
  const double* mean;    ///< [C]
  const double* invstd;  ///< [C]
};
void choose_windows(const ChooseBackward& arguments, Stream stream);

/// Adds the weights to the count. One read of them.
struct CountWeights {
  const float* weight;
  std::int64_t size;
  std::int64_t* count;  ///< [count_words]
};
void count_weights(const CountWeights& arguments, Stream stream);

/// Terms of ForwardSums, of double. One read of x, or none.
struct ForwardTally {
  TalliedPass pass;
  ConstTensorView x;
  const float* weight;  ///< null, or [N, S]
  const double* pivot;  ///< [C]
};
void tally(const ForwardTally& arguments, Stream stream);
void tally_magnitudes(const ForwardTally& arguments, Stream stream);

/// Terms of BackwardSums, of double: x - mean too, while dz is as there. One read of x and dy (and
/// y), or none.
struct BackwardTally {
  TalliedPass pass;
  Upstream upstream;
};
void tally(const BackwardTally& arguments, Stream stream);
void tally_magnitudes(const BackwardTally& arguments, Stream stream);

/// A rank's message: pass.words() doubles that are integers, but for a NaN where it has a term
/// outside of its window.
void pack_sums(const TalliedPass& pass, double* message, Stream stream);

/// The group's sums from that of all; then the channels to be taken again are wanted. `round`:
/// 0, 1, ... of the pass, the last of which decides nothing.
struct SettleForward {
  static constexpr int rounds = 3;

  TalliedPass pass;
  const double* message;
  int round;
  double eps;
  double* pivot;  ///< [C], moved to the mean where the sums are to be taken about it
  double* sums;   ///< [2C + 1] written
};
void settle(const SettleForward& arguments, Stream stream);
struct SettleBackward {
  static constexpr int rounds = 2;

  TalliedPass pass;
  const double* message;
  int round;
  double* sums;      ///< [2C + 1] written
  double* own_sums;  ///< [2C + 1] written, but for the count: of this rank
};
void settle(const SettleBackward& arguments, Stream stream);

/// A rank's message: message_words, of the wanted channels' magnitudes.
void pack_exponents(const TalliedPass& pass, const ExponentCode& code, double* message,
                    Stream stream);

/// Windows of the largest terms, for the wanted channels.
struct FitWindows {
  TalliedPass pass;
  ExponentCode code;
  const double* message;
};
void fit_windows(const FitWindows& arguments, Stream stream);

}  // namespace syncbn::kernels::cuda
