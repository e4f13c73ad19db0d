// SPDX-License-Identifier: Apache-2.0
#pragma once

// Steps of a layer with exact sums, on any shard of their batches, and how results are compared.

#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "syncbn/batch_norm.hpp"

#include "support/tensor.hpp"

namespace syncbn::test {

/// A layer and the batches it is given.
struct Setting {
  DType dtype = DType::f32;
  Layout layout = Layout::channels_first;
  Shape shape = {11, 5, 37};
  double mean = 0.3;  ///< of x
  double spread = 1;  ///< standard deviation of x
  double eps = 1e-5;
  Activation activation = Activation::none;
  bool residual = false;
  bool weighted = false;
  float heaviest = 2.7F;  ///< weight, if there are any
  bool in_place = false;
  bool tracked = true;
  std::int64_t blocks = 1;
  Backend backend = Backend::cpu;
  Reproducibility reproducibility = Reproducibility::exact;
  /// Of the third step, in channel 2 of sample 1: an outlier, or none if 0.
  double outlier = 0;
  double gradient_outlier = 0;
  GradientScope scope = GradientScope::group;
};

/// Samples [begin, end) of the whole batch.
struct Shard {
  std::int64_t begin;
  std::int64_t end;
};

/// Ways to cut a batch.
constexpr int shardings = 5;
Shard shard_of(int sharding, std::int64_t samples, int rank, int ranks);

/// What a step is given, of the whole batch.
struct Batch {
  Tensor x, dy, residual;
};

std::vector<Batch> batches_of(const Setting& setting);
std::vector<float> weights_of(const Setting& setting, const Shard& shard);
BatchNormOptions options_of(const Setting& setting);
std::vector<double> gamma_of(const Setting& setting);
std::vector<double> beta_of(const Setting& setting);

struct Results {
  std::vector<Tensor> tensors;  ///< of every step
  std::vector<double> shared;   ///< what all ranks have
  std::int64_t retries = 0;
};

/// Collective. What BatchNorm makes of a shard of the batches.
Results train(const Communicator& group, const Setting& setting, const std::vector<Batch>& batches,
              const Shard& shard);

/// `train`, or the like of another layer.
using Train = std::function<Results(const Communicator&, const Setting&, const std::vector<Batch>&,
                                    const Shard&)>;

/// What one process makes of the whole batches, for all ranks to hold theirs against.
struct Whole {
  Setting setting;
  std::vector<Batch> batches;
  Results results;

  explicit Whole(const Setting& setting, const Train& by = train);
};

/// Of every NaN the same bits, as which one it is depends on the order in which it was made.
inline std::uint64_t bits_of(double value) {
  return std::isnan(value) ? 1 : std::bit_cast<std::uint64_t>(value);
}

/// How many numbers have other bits than in the whole batch's results.
std::int64_t count_differences(const Results& part, const Results& whole, const Shard& shard);

/// Collective. Such numbers over all ranks and shardings, of a layer set up by `setting`.
double differences(const Communicator& group, const Whole& whole, const Setting& setting,
                   const Train& by = train);

/// On every number of ranks: that a layer has none, held against another's whole.
void expect_the_bits_of_one_process(const std::vector<Setting>& settings, const Train& by = train,
                                    const Train& of_whole = train);

/// What they are tried with: means far from 0, terms that leave their windows, weights far from 1,
/// values near the ends of the range of double, and infinities and NaNs of every type.
std::vector<Setting> with_means_far_from_zero();
std::vector<Setting> with_outliers();
std::vector<Setting> with_weights_far_from_one();
std::vector<Setting> at_the_ends_of_double();
std::vector<Setting> with_infinities_and_nans();

std::string to_text(const Setting& setting);

}  // namespace syncbn::test
