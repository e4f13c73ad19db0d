// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "syncbn/batch_norm.hpp"

#include "app/device_kind.hpp"

namespace syncbn::app::check {

/// A Sharding says how the samples of the whole batch are dealt out to the ranks, in rank order.
enum class Sharding : std::uint8_t {
  even,         ///< shares as equal as possible
  growing,      ///< rank r gets a share proportional to r + 1
  first_empty,  ///< rank 0 gets none, the others equal shares
  last_alone,   ///< the last rank gets everything
};

inline constexpr int shardings = 4;

/// Memory says which memory a layer's tensors share.
enum class Memory : std::uint8_t {
  apart,      ///< none
  in_place,   ///< y is x, and dx is dy; a copy of x is kept
  recovered,  ///< y is x, and dx is dy; x is not kept but recovered from y: forward_in_place
};

/// A Shard is one rank's part of the batch: samples [begin, end).
struct Shard {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
};

Shard shard_of(Sharding sharding, std::int64_t samples, int rank, int ranks);

/// A Case describes one layer and the batches it is given.
struct Case {
  DeviceKind device = DeviceKind::cpu;
  DType dtype = DType::f32;
  Layout layout = Layout::channels_first;
  Shape shape;               ///< the whole batch's
  double mean_over_std = 0;  ///< |mean| / std of x, in every channel
  Activation activation = Activation::none;
  bool residual = false;
  bool weighted = false;  ///< with weights and padding: see Batch::weight
  Memory memory = Memory::apart;
  bool replayed = false;  ///< steps after the first are replays of a CUDA graph
  GradientScope scope = GradientScope::group;
  Sharding sharding = Sharding::even;
  std::int64_t channel_blocks = 1;  ///< see BatchNormOptions
  Reproducibility reproducibility = Reproducibility::rank_consistent;
};

/// Describes a case: "f32 6x2048x1 channels_last, |mean|/std 1e+04, relu, residual, shards 1+2+3".
std::string describe(const Case& one, int ranks);

/// Returns the largest |mean|/std, among those that are tried, at which neighbouring values of the
/// type are at most a standard deviation apart. Beyond it x is nearly constant.
double largest_mean_over_std(DType dtype);

/// A Selection is what the user wants checked.
struct Selection {
  DeviceKind device = DeviceKind::cpu;
  std::vector<DType> dtypes = {DType::f32, DType::f64, DType::f16, DType::bf16};
  std::vector<Layout> layouts = {Layout::channels_first, Layout::channels_last};
  bool quick = false;   ///< about a third of the cases
  bool exact = false;   ///< layers with Reproducibility::exact
  bool graphs = false;  ///< with layers replayed from graphs: where those can hold the sums
};

/// Returns how many steps the case's layer is trained for. The second sums about the running mean
/// of the first. A replayed layer is captured in the second, and replayed with other data in the
/// third.
int steps_of(const Case& one);

/// Returns whether the case's layer sums as layers on a device do: once, in float terms (f64: in
/// double), about a pivot that is predicted from earlier steps. Exact sums on a device are taken as
/// on the CPU.
bool sums_on_device(const Case& one);

/// Returns the cases in the order in which all ranks run them. A layer on a device has no blocks of
/// channels.
std::vector<Case> make_cases(const Selection& selection);

}  // namespace syncbn::app::check
