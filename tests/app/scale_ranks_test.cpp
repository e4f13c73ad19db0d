// SPDX-License-Identifier: Apache-2.0
//
// `syncbn scale` under mpirun.
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/run_tool.hpp"
#include "support/scratch_directory.hpp"
#include "trainer/idx_files.hpp"

namespace syncbn::test {
namespace {

using nlohmann::json;

/// Returns the fields of all cells of a kind, as sets of their values.
std::map<std::string, std::set<json>> values_of(const json& report, const std::string& kind) {
  std::map<std::string, std::set<json>> values;
  for (const json& cell : report["cells"]) {
    if (cell["kind"] == kind) {
      for (const auto& [name, value] : cell.items()) {
        values[name].insert(value);
      }
    }
  }
  return values;
}

TEST(ScaleRanks, MeasureInGroupsOfTheirOwn) {
  const ScratchDirectory scratch;
  const Ended ended = run_ranks(3,
                                "scale --ranks 1,2,3 --shapes 4x3x5x5 --cell-seconds 0.01 "
                                "--output " +
                                    (scratch / "run").string());
  ASSERT_EQ(ended.code, 0) << ended.err;
  const json report = json::parse(read_file(scratch / "run/scale.json"));
  ASSERT_EQ(report["groups"].size(), 3);
  EXPECT_EQ(report["groups"][1]["members"], (json{0, 1}));
  auto exchanges = values_of(report, "exchange");
  EXPECT_EQ(exchanges["group"], (std::set<json>{1, 2}));
  EXPECT_EQ(exchanges["by"], (std::set<json>{"builtin", "MPI_Allreduce"}));
  for (const json& cell : report["cells"]) {
    if (cell["kind"] == "exchange" || (cell["kind"] == "layer" && cell["group"] != 0)) {
      const std::size_t ranks = report["groups"][cell["group"].get<std::size_t>()]["ranks"];
      ASSERT_EQ(cell["ranks"].size(), ranks) << cell;
      double last = 0;
      for (const json& rank : cell["ranks"]) {
        last += rank["last"].get<double>();
      }
      EXPECT_GE(last, 0.99) << "some rank comes last each time; " << cell;
    }
  }
  EXPECT_EQ(values_of(report, "layer")["group"], (std::set<json>{0, 1, 2}));
  EXPECT_EQ(values_of(report, "noise")["ranks"].begin()->size(), 3);
}

TEST(ScaleRanks, TimeTrainingSteps) {
  const ScratchDirectory scratch;
  write_data_set(scratch.path(), 100, 50, 8);
  const Ended ended =
      run_ranks(2, "scale --measure noise --train --batch-size 8 --cell-seconds 0.01 --data " +
                       scratch.path().string() + " --output " + (scratch / "run").string());
  ASSERT_EQ(ended.code, 0) << ended.err;
  const json report = json::parse(read_file(scratch / "run/scale.json"));
  std::set<std::string> found;
  for (const json& cell : report["cells"]) {
    if (cell["kind"] == "step") {
      found.insert(cell["scaling"].get<std::string>() + " " + cell["norm"].get<std::string>() +
                   " " + cell["group"].dump() + " " + cell["batch"].dump());
      EXPECT_GT(cell["step"]["median"], 0);
      EXPECT_EQ(cell.contains("ranks"), cell["norm"] == "sync" && cell["group"] == 1) << cell;
      if (cell.contains("ranks")) {  // three layers, forward and backward, of this cell alone
        constexpr int warm_up = 3;
        EXPECT_LE(cell["spread"]["count"], 6 * (cell["step"]["count"].get<int>() + warm_up));
      }
    }
  }
  EXPECT_EQ(found,
            (std::set<std::string>{"strong sync 0 8", "strong local 0 8", "strong sync 1 8",
                                   "strong local 1 8", "weak sync 1 16", "weak local 1 16"}));
}

}  // namespace
}  // namespace syncbn::test
