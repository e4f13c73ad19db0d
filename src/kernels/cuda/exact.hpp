// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions take exact sums on a CUDA device, in the steps of bn/exact_sums.hpp. All
// decisions are made on the device, as the host does not wait to see them.
//
//   choose_windows -> tally -> pack_sums -> (added over the group) -> settle
//
// settle finds the channels whose sums are to be taken again. For these the following steps are put
// on the stream, too, as often as they may be necessary:
//
//   tally_magnitudes -> pack_exponents -> (added over the group) -> fit_windows
//     -> tally -> pack_sums -> (added over the group) -> settle
//
// A channel is wanted if the next steps have something to do for it. Blocks in which no channel is
// wanted return at once. As in cuda.hpp, pointers are to device memory, work is put on `stream`,
// and DeviceError is thrown if it cannot be launched.
//
// Integers are added in whatever order blocks come in, and what follows from them is computed as on
// the host (kernels/windows.hpp). So the bits are the same as those of backend cpu with fused
// multiplication and addition.

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/count_limbs.hpp"
#include "kernels/cuda/cuda.hpp"
#include "kernels/windows.hpp"

namespace syncbn::kernels::cuda {

/// A rank's tally of a channel has so many words: two halves each of the first sum, of the second
/// sum, and of the same in finer units, and the mark. The mark is the bits of the largest |dz|, or
/// all ones if a term was outside of its window.
inline constexpr int tally_words = 9;
/// A rank's magnitudes of a channel have so many words: the bits of the largest term of either sum,
/// and which special values (infinities and NaNs) there were.
inline constexpr int magnitude_words = 3;

/// An ExactChannels points to what is kept of every channel, in arrays of [C] or [words, C].
struct ExactChannels {
  std::int64_t channels;
  int* first_window;          ///< of the pass under way
  int* second_window;         ///< of the pass under way
  int* wanted;                ///< 1 where the next tally has something to do
  std::uint64_t* tallies;     ///< [tally_words, C] of this rank
  std::uint64_t* magnitudes;  ///< [magnitude_words, C] of this rank, from when last wanted
  std::int64_t* count;        ///< [count_words] of this rank
  double* first_special;      ///< sum of the group's infinities and NaNs; 0: none
  double* second_special;     ///< the same of the second sum
  int* gradient_exponent;     ///< of the last backward's largest |dz|
  double* var;                ///< expected of the next batch; negative: not known yet
};

/// Returns the number of doubles in a message of sums. `fine` is for f64.
SYNCBN_HOST_DEVICE constexpr std::int64_t sums_words(std::int64_t channels, bool backward,
                                                     bool fine) {
  return channels * ((fine ? 8 : 4) + (backward ? 1 : 0)) + count_words;
}

/// A TalliedPass says which kind of pass is under way, and on which channels.
struct TalliedPass {
  ExactChannels of;
  bool backward;
  bool fine;  ///< f64

  SYNCBN_HOST_DEVICE std::int64_t words() const { return sums_words(of.channels, backward, fine); }
};

/// An ExponentCode says how a largest exponent travels: in `words` doubles, each for digits.count
/// of the possible exponents.
struct ExponentCode {
  Digits digits;
  int words;

  SYNCBN_HOST_DEVICE std::int64_t message_words(std::int64_t channels) const {
    return channels * 2 * (words + 1);
  }
};
/// Returns the code for so many ranks, which are fewer than 2^20.
ExponentCode exponent_code(int ranks);

/// Returns the words that count the elements of a channel, where there are no weights.
std::array<std::int64_t, count_words> limbs_of(std::int64_t positions);

/// Chooses the windows of a pass's first tally, and sets the count to `limbs`, which are 0 for
/// weights that are counted next.
struct ChooseForward {
  TalliedPass pass;
  std::array<std::int64_t, count_words> limbs;
  /// The pivot and the variance follow from these in a layer's first forward, and in the first
  /// after a load. Otherwise running_mean and running_var are null, and both are what the last
  /// forward left.
  const double* running_mean;
  const double* running_var;
  const std::int64_t* batches;
  double momentum;  ///< 1 for a cumulative average
  double eps;
  double* pivot;  ///< [C]
};
void choose_windows(const ChooseForward& arguments, Stream stream);
/// Does the same for a backward, whose windows follow from the last backward's largest |dz|.
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

/// Tallies the terms of ForwardSums, computed in double. One read of x, or none if no channel is
/// wanted.
struct ForwardTally {
  TalliedPass pass;
  ConstTensorView x;
  const float* weight;  ///< null, or [N, S]
  const double* pivot;  ///< [C]
};
void tally(const ForwardTally& arguments, Stream stream);
void tally_magnitudes(const ForwardTally& arguments, Stream stream);

/// Tallies the terms of BackwardSums, with x - mean and the product in double, while dz is computed
/// as there. One read of x and dy (and y), or none if no channel is wanted.
struct BackwardTally {
  TalliedPass pass;
  Upstream upstream;
};
void tally(const BackwardTally& arguments, Stream stream);
void tally_magnitudes(const BackwardTally& arguments, Stream stream);

/// Writes a rank's message: pass.words() doubles that are integers, except for a NaN where a
/// channel has a term outside of its window.
void pack_sums(const TalliedPass& pass, double* message, Stream stream);

/// Reads the group's sums from the message of all ranks, and makes the channels wanted whose sums
/// are to be taken again. `round` is 0, 1, ... in the pass; the last round decides nothing.
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
  double* own_sums;  ///< [2C + 1] this rank's sums; all but the count are written
};
void settle(const SettleBackward& arguments, Stream stream);

/// Writes a rank's message: code.message_words(C) doubles, which tell the wanted channels'
/// magnitudes.
void pack_exponents(const TalliedPass& pass, const ExponentCode& code, double* message,
                    Stream stream);

/// Fits the windows of the wanted channels to the largest terms that the message of all ranks
/// tells.
struct FitWindows {
  TalliedPass pass;
  ExponentCode code;
  const double* message;
};
void fit_windows(const FitWindows& arguments, Stream stream);

}  // namespace syncbn::kernels::cuda
