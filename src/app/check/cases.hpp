// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "syncbn/batch_norm.hpp"

#include "app/device.hpp"

namespace syncbn::app::check {

/// How the samples of the whole batch are dealt out to the ranks, in rank order.
enum class Sharding : std::uint8_t {
  even,         ///< as equal as they go
  growing,      ///< rank r gets a share proportional to r + 1
  first_empty,  ///< rank 0 none, the others equal shares
  last_alone,   ///< the last rank everything
};

inline constexpr int shardings = 4;

/// What a layer's tensors share.
enum class Memory : std::uint8_t {
  apart,      ///< nothing
  in_place,   ///< y is x, and dx is dy; x is kept besides
  recovered,  ///< the same, and x is not kept: forward_in_place
};

/// Samples [begin, end) of the whole batch.
struct Shard {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
};

Shard shard_of(Sharding sharding, std::int64_t samples, int rank, int ranks);

/// One layer and the batches it is given.
struct Case {
  Device device = Device::cpu;
  DType dtype = DType::f32;
  Layout layout = Layout::channels_first;
  Shape shape;               ///< of the whole batch
  double mean_over_std = 0;  ///< of x, in every channel
  Activation activation = Activation::none;
  bool residual = false;
  bool weighted = false;  ///< and padded: see Batch::weight
  Memory memory = Memory::apart;
  GradientScope scope = GradientScope::group;
  Sharding sharding = Sharding::even;
  std::int64_t channel_blocks = 1;  ///< see BatchNormOptions
  Reproducibility reproducibility = Reproducibility::rank_consistent;
};

/// "f32 6x2048x1 channels_last, |mean|/std 1e+04, relu, residual, shards 1+2+3".
std::string describe(const Case& one, int ranks);

/// The largest |mean|/std at which neighbouring values of the type are still at most a standard
/// deviation apart, among those that are tried. Beyond it x is all but constant.
double largest_mean_over_std(DType dtype);

/// What the user wants.
struct Selection {
  Device device = Device::cpu;
  std::vector<DType> dtypes = {DType::f32, DType::f64, DType::f16, DType::bf16};
  std::vector<Layout> layouts = {Layout::channels_first, Layout::channels_last};
  bool quick = false;  ///< a third of the cases
  bool exact = false;  ///< layers with Reproducibility::exact
};

/// Whether its layer takes sums once, of float terms but for f64, about a pivot that was foretold:
/// on a device, unless they are exact, which are those of the CPU.
bool sums_on_device(const Case& one);

/// The cases in the order in which all ranks run them. A layer on a device has no blocks of
/// channels.
std::vector<Case> make_cases(const Selection& selection);

}  // namespace syncbn::app::check
