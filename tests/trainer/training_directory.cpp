// SPDX-License-Identifier: Apache-2.0
#include "trainer/training_directory.hpp"

#include <atomic>
#include <exception>
#include <unistd.h>

#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "trainer/idx_files.hpp"
#include "trainer/trainer.hpp"

namespace syncbn::test {
namespace {

/// The same on all ranks, another for each call and each run of the program.
std::string shared_name(const Communicator& ranks) {
  static std::atomic<int> calls = 0;
  std::vector<double> words(2);
  if (ranks.rank() == 0) {
    words = {static_cast<double>(getpid()), static_cast<double>(++calls)};
  }
  ranks.all_reduce(words);
  return "syncbn-training-" + std::to_string(static_cast<long>(words[0])) + "-" +
         std::to_string(static_cast<long>(words[1]));
}

}  // namespace

TrainingDirectory::TrainingDirectory(const Communicator& ranks)
    : ranks_(ranks),
      path_(std::filesystem::temp_directory_path() / shared_name(ranks)),
      exceptions_(std::uncaught_exceptions()) {
  if (ranks.rank() == 0) {
    std::filesystem::create_directory(path_);
    write_data_set(path_, 61, 23, 8);
  }
  barrier(ranks);
}

TrainingDirectory::~TrainingDirectory() {
  if (std::uncaught_exceptions() > exceptions_) {
    return;  // the others may be elsewhere
  }
  try {
    barrier(ranks_);
  } catch (const std::exception&) {
    return;
  }
  if (ranks_.rank() == 0) {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
}

trainer::TrainOptions TrainingDirectory::options(std::int64_t steps) const {
  trainer::TrainOptions options;
  options.data = path_;
  options.batch_size = 13;  // not a multiple of any number of ranks; the last of an epoch has 9
  options.learning_rate = 0.01;
  options.schedule = trainer::Schedule::constant;
  options.steps = steps;
  return options;
}

void barrier(const Communicator& ranks) {
  std::vector<double> nothing(1);
  ranks.all_reduce(nothing);
}

std::vector<double> losses_of(const trainer::TrainOptions& options, const Communicator& ranks) {
  Losses losses;
  trainer::Trainer(options, ranks).run(losses);
  return losses.values();
}

std::string refusal(const trainer::TrainOptions& options, const Communicator& ranks) {
  return test::failure_of<Error>([&] { trainer::Trainer(options, ranks); });
}

}  // namespace syncbn::test
