// SPDX-License-Identifier: Apache-2.0
#include "app/study/settings.hpp"

#include <functional>
#include <vector>

#include <gtest/gtest.h>

namespace syncbn::app::study {
namespace {

study::Run run_of(std::uint64_t seed) {
  trainer::TrainOptions options;
  options.steps = 100;
  options.seed = seed;
  return make_run("test", {{"norm", "sync"}}, options, 2);
}

TEST(StudySettings, ChangeTheChecksum) {
  const std::vector<study::Run> runs{run_of(1), run_of(2)};
  const std::vector<std::function<void(study::Run&)>> changes{
      [](study::Run& run) { run.name += "0"; },
      [](study::Run& run) { run.ranks = 4; },
      [](study::Run& run) { run.options.learning_rate *= 2; },
      [](study::Run& run) { run.options.activation = trainer::dnn::Function::tanh; },
      [](study::Run& run) { run.options.steps = 101; },
      [](study::Run& run) {
        run.recording.steps = {50, 100};
      },
      [](study::Run& run) { run.recording.hidden_inputs = true; },
      [](study::Run& run) { run.recording.one_process = true; },
      [](study::Run& run) { run.recording.population = true; }};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    std::vector<study::Run> changed = runs;
    changes[i](changed[1]);
    EXPECT_NE(checksum_of(changed), checksum_of(runs)) << "change " << i;
  }
}

TEST(StudySettings, AreTheSameInAnyOrderAndWhereverTheDataLies) {
  study::Run first = run_of(1), second = run_of(2);
  const std::string checksum = checksum_of(std::vector{first, second});
  first.options.data = "elsewhere";
  EXPECT_EQ(checksum_of(std::vector{second, first}), checksum);
}

}  // namespace
}  // namespace syncbn::app::study
