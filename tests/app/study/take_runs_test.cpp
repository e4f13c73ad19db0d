// SPDX-License-Identifier: Apache-2.0
//
// What ranks keep of the runs that they share.
#include "app/study/take_runs.hpp"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/scratch_directory.hpp"
#include "trainer/idx_files.hpp"
#include "trainer/trainer.hpp"

namespace syncbn::app::study {
namespace {

study::Run run_of(std::uint64_t seed) {
  trainer::TrainOptions options;
  options.network = trainer::Network::mlp;
  options.activation = trainer::dnn::Function::relu;
  options.batch_size = 8;
  options.steps = 2;
  options.seed = seed;
  return make_run("test", Json::object(), options);
}

/// Returns a run that asks for what is not kept.
study::Run failing_run(std::uint64_t seed) {
  study::Run run = run_of(seed);
  run.recording.hidden_inputs = true;
  return run;
}

TEST(StudyRuns, KeepTheOtherRanksFindingsWhenOneFails) {
  const test::ScratchDirectory scratch;
  test::write_data_set(scratch.path(), 100, 50, 8);
  const auto data = trainer::load_everywhere(scratch.path(), Communicator::self());
  test::on_ranks([&](const Communicator& group) {
    const auto last = static_cast<std::size_t>(group.size() - 1);
    std::vector<study::Run> runs;
    for (std::size_t rank = 0; rank < last; ++rank) {
      runs.push_back(run_of(rank));
    }
    runs.push_back(failing_run(last));
    runs.push_back(run_of(last + 1));
    std::vector<const study::Run*> shared;
    for (const study::Run& run : runs) {
      shared.push_back(&run);
    }
    const auto output = scratch / std::to_string(group.size());
    RunDirectory directory(group, output, run_files(), Json::object());
    const std::string failure = test::failure_of<FileError>(
        [&] { take_runs(shared, group, data, ProgressStyle::lines, directory); });
    EXPECT_THAT(failure, testing::HasSubstr("is not kept"));
    for (std::size_t i = 0; i < runs.size(); ++i) {
      EXPECT_EQ(directory.has(runs[i].name), i < last) << runs[i].name;
      EXPECT_EQ(std::filesystem::exists(output / "runs" / (runs[i].name + ".json")), i < last);
    }
  });
}

}  // namespace
}  // namespace syncbn::app::study
