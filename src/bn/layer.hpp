// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "syncbn/batch_norm.hpp"

#include "bn/host/workspace.hpp"
#include "bn/options.hpp"
#include "channels/finalize.hpp"

namespace syncbn::bn {

/// A Layer holds its options, its parameters, and what it remembers from step to step.
struct Layer {
  /// Makes a layer of `count` channels. Throws InvalidArgument unless there can be such a layer.
  Layer(std::int64_t count, Communicator members, BatchNormOptions wanted);

  comm::Group& group() const { return communicator.group(); }
  bool is_exact() const { return working.exact.has_value(); }
  Affine affine() const { return {weight, bias}; }

  /// Begins a forward of `dtype`: sets the pivot to the mean that the running statistics predict,
  /// unless it is known from an earlier batch.
  void prepare_pivot(DType dtype);
  /// Ends a forward, whose statistics are in `working`: moves the running statistics, and chooses
  /// the next forward's pivot.
  void move_to_batch(DType dtype);
  /// Copies the running statistics into working.statistics.
  void take_running_statistics();

  /// Returns a fingerprint of what decides how the next sums are taken: the ranks compare it.
  std::uint64_t shared_state() const;
  /// Returns a fingerprint of gamma and beta, of those channels whose turn it is; 0 if they may
  /// differ.
  std::uint64_t compared_parameters() const;

  /// Throws InvalidArgument unless the input of a forward can be recovered from its output, and
  /// tells why to ranks that wait for this one.
  void require_invertible() const;

  std::int64_t channels;
  Communicator communicator;
  BatchNormOptions options;
  Identity identity;
  std::string options_text;  ///< for the ranks to compare

  std::vector<double> weight, bias, weight_grad, bias_grad;  ///< [C] gamma, beta, their gradients
  std::vector<double> running_mean, running_var;             ///< [C]
  std::int64_t num_batches_tracked = 0;
  std::int64_t forwards = 0;
  std::int64_t pivot_retries = 0;

  std::vector<double> pivot;                  ///< [C] the next sums are about this
  std::vector<double> start_mean, start_var;  ///< [C] the running statistics' first values
  bool knows_mean = false;                    ///< the pivot follows from an earlier batch

  Workspace working;  ///< memory of passes, and what one leaves for the next

 private:
  channels::RunningStatistics running();
  /// Returns null unless sums are exact.
  double* expected_var();
};

}  // namespace syncbn::bn
