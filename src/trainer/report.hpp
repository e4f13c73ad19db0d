// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "syncbn/communicator.hpp"

namespace syncbn::trainer {

/// Says where this rank's time went [s].
struct Times {
  double total = 0;
  double layers = 0;      ///< forward and backward of all layers but batch norm, and the loss
  double batch_norm = 0;  ///< batch norm layers without their exchange
  double batch_norm_exchange = 0;  ///< waiting for other ranks included
  double gradient_exchange = 0;    ///< waiting for other ranks included
  double update = 0;               ///< optimizer

  Times& operator+=(const Times& other);
  /// Returns the share of both exchanges in the total; 0 if that is 0.
  double exchange_share() const;
  /// Returns the share of batch norm layers, with their exchange, in the total.
  double batch_norm_share() const;
};

struct StepReport {
  std::int64_t step = 0;    ///< counted from 1
  std::int64_t epoch = 0;   ///< counted from 1
  std::int64_t steps = 0;   ///< in the whole run
  std::int64_t images = 0;  ///< in the global batch
  double loss = 0;          ///< mean over the global batch, before the step's update
  double accuracy = 0;      ///< of the same forward, which is in training mode
  double learning_rate = 0;
  Times times;
  std::optional<double> test_accuracy;  ///< at the end of an epoch and of the run
};

/// Says what `run` did, from where it resumed. A step that was taken again, because a rank was
/// lost, counts again.
struct RunReport {
  std::int64_t steps = 0;
  std::int64_t images = 0;
  Times times;
  double test_accuracy = 0;
  std::int64_t test_images = 0;
  bool stopped = false;  ///< before its end, as it was asked to; then nothing was evaluated
};

/// Hears of a run as it goes on, on the rank it was given to.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_step(const StepReport& report) = 0;
  /// Is called when ranks are lost. `ranks` are those that go on, with what follows step
  /// `steps_done`. Steps after it may have been told of already, and then are told of again.
  virtual void on_recovery(std::int64_t /*steps_done*/, const Communicator& /*ranks*/) {}
};

}  // namespace syncbn::trainer
