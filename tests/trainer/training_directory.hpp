// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"

#include "trainer/report.hpp"
#include "trainer/train_options.hpp"

namespace syncbn::test {

/// A directory that all ranks see, with a small data set in it: 61 images to train with and 23 to
/// test, 8x8. Collective to make and to destroy; removed at the end unless a rank failed.
class TrainingDirectory {
 public:
  explicit TrainingDirectory(const Communicator& ranks);
  ~TrainingDirectory();
  TrainingDirectory(const TrainingDirectory&) = delete;
  TrainingDirectory& operator=(const TrainingDirectory&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

  /// A short run on this data set.
  trainer::TrainOptions options(std::int64_t steps) const;

 private:
  Communicator ranks_;
  std::filesystem::path path_;
  int exceptions_;
};

/// Waits for all ranks.
void barrier(const Communicator& ranks);

/// The loss of each step.
class Losses final : public trainer::Observer {
 public:
  void on_step(const trainer::StepReport& report) override { losses_.push_back(report.loss); }
  const std::vector<double>& values() const { return losses_; }

 private:
  std::vector<double> losses_;
};

/// Collective. Trains from the start or the checkpoint to the end.
std::vector<double> losses_of(const trainer::TrainOptions& options, const Communicator& ranks);

/// Collective. Why a Trainer cannot be made with these options; "" if it can.
std::string refusal(const trainer::TrainOptions& options, const Communicator& ranks);

}  // namespace syncbn::test
