// SPDX-License-Identifier: Apache-2.0

// The bench of layers on devices, with one that the host emulates.

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/args.hpp"
#include "app/command.hpp"
#include "app/run_command.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/scratch_directory.hpp"

namespace syncbn::test {
namespace {

using testing::HasSubstr;

app::Arguments tiny(const app::Arguments& more) {
  app::Arguments arguments = {"--device",     "emulated", "--exchange", "builtin",    "--shapes",
                              "4x3x5x5,6x10", "--repeat", "3",          "--min-time", "0"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(DeviceBench, TimesEveryPhase) {
  on_ranks([](const Communicator& ranks) {
    const ScratchDirectory scratch;
    const std::string file = (scratch.path() / "bench.json").string();
    ASSERT_EQ(
        run_command(app::make_bench(), tiny({"--compare", "local,exact", "--json", file}), ranks),
        0);
    if (ranks.rank() != 0) {
      return;
    }
    const auto report = nlohmann::json::parse(std::ifstream(file));
    EXPECT_EQ(report["device"]["name"], "emulated: the host runs the kernels of a device");
    EXPECT_EQ(report["transport"], "staged through the host, threads");
    EXPECT_TRUE(report["threads"].is_null());
    ASSERT_EQ(report["layers"].size(), 2);
    for (const auto& layer : report["layers"]) {
      EXPECT_EQ(layer["phases"].size(), 12);
      for (const char* phase :
           {"copy", "sums", "exchange", "normalize", "forward", "backward_sums", "input_gradient",
            "backward", "local_forward", "local_backward", "exact_forward", "exact_backward"}) {
        ASSERT_TRUE(layer["phases"].contains(phase)) << phase;
        EXPECT_EQ(layer["phases"][phase]["repetitions"], 3) << phase;
        EXPECT_GT(layer["phases"][phase]["min"], 0) << phase;
        EXPECT_EQ(layer["phases"][phase].contains("gb_per_s"), std::string(phase) != "exchange");
      }
    }
  });
}

TEST(DeviceBench, RefusesWhatDevicesDoNotHave) {
  const auto expect_refused = [&](const app::Arguments& arguments, const char* part) {
    EXPECT_THAT(failure_of<app::UsageError>(
                    [&] { run_command(app::make_bench(), tiny(arguments), Communicator::self()); }),
                testing::AllOf(HasSubstr(part), HasSubstr("--device")));
  };
  expect_refused({"--compare", "local,onednn"}, "--compare onednn");
  expect_refused({"--threads", "1"}, "--threads");
}

}  // namespace
}  // namespace syncbn::test
