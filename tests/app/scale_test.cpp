// SPDX-License-Identifier: Apache-2.0
//
// `syncbn scale` as its users start it: what it leaves, and that a killed run goes on.
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/run_tool.hpp"
#include "support/scratch_directory.hpp"

namespace syncbn::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

namespace fs = std::filesystem;

const std::string quick = "scale --shapes 4x3x5x5,6x10 --cell-seconds 0.01 --output ";

json report_of(const fs::path& directory) {
  return json::parse(read_file(directory / "scale.json"));
}

/// Returns the cells' files with their contents.
std::map<std::string, std::string> cells_of(const fs::path& directory) {
  std::map<std::string, std::string> cells;
  for (const auto& entry : fs::directory_iterator(directory / "cells")) {
    cells[entry.path().filename()] = read_file(entry.path());
  }
  return cells;
}

TEST(Scale, LeavesAReportOfOneRank) {
  const ScratchDirectory scratch;
  const Ended ended = run_tool(quick + (scratch / "run").string());
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("python -m syncbn.report"));
  const json report = report_of(scratch / "run");
  EXPECT_EQ(report["format"], "syncbn scale 1");
  EXPECT_EQ(report["machine"]["ranks"], 1);
  EXPECT_EQ(report["sittings"], 1);
  std::multiset<std::string> kinds;
  for (const json& cell : report["cells"]) {
    kinds.insert(cell["kind"]);
    if (cell["kind"] == "layer") {
      EXPECT_GT(cell["price"]["value"], 0);
      EXPECT_GT(cell["sync_forward"]["count"], 0);
      EXPECT_FALSE(cell.contains("spread")) << "one rank exchanges nothing";
    }
  }
  EXPECT_EQ(kinds, (std::multiset<std::string>{"layer", "layer", "noise"}));
}

TEST(Scale, MeasuresOnlyWhatIsMissing) {
  const ScratchDirectory scratch;
  const fs::path run = scratch / "run";
  ASSERT_EQ(run_tool(quick + run.string()).code, 0);
  auto before = cells_of(run);
  fs::remove(run / "cells/layer-0-6x10.json");
  const Ended ended = run_tool(quick + run.string());
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("2 of them measured already"));
  auto after = cells_of(run);
  before.erase("layer-0-6x10.json");
  EXPECT_EQ(after.erase("layer-0-6x10.json"), 1);
  EXPECT_EQ(after, before);
  EXPECT_EQ(report_of(run)["sittings"], 2);
}

TEST(Scale, GoesOnWhereItWasKilled) {
  const ScratchDirectory scratch;
  const fs::path run = scratch / "run";
  const std::string arguments =
      "scale --shapes 4x3x5x5,6x10,8x4,3x7,2x2x9x9 --cell-seconds 0.2 --output " + run.string();
  std::ofstream(scratch / "kill_after_two_cells")
      << "OMP_NUM_THREADS=1 " SYNCBN_PROGRAM " " << arguments << " &\n"
      << "while kill -0 $! && [ $(ls " << (run / "cells").string() << " | grep -c json) -lt 2 ]\n"
      << "do sleep 0.01; done\nkill -KILL $!\nwait $!\n";
  const Ended killed = run_shell("sh " + (scratch / "kill_after_two_cells").string());
  EXPECT_EQ(killed.code, 128 + 9) << killed.err;
  EXPECT_FALSE(fs::exists(run / "scale.json"));
  const auto before = cells_of(run);
  const Ended ended = run_tool(arguments);
  ASSERT_EQ(ended.code, 0) << ended.err;
  const auto after = cells_of(run);
  for (const auto& [name, text] : before) {
    if (name.ends_with(".json")) {
      EXPECT_EQ(after.at(name), text) << name;
    }
  }
  EXPECT_EQ(report_of(run)["cells"].size(), 6);
}

TEST(Scale, RefusesADirectoryThatAnotherRunWritesTo) {
  const ScratchDirectory scratch;
  const fs::path run = scratch / "run";
  fs::create_directories(run);
  const Ended ended =
      run_shell("flock " + (run / "lock").string() + " " SYNCBN_PROGRAM " " + quick + run.string());
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("is being written to by another run"));
  EXPECT_FALSE(fs::exists(run / "run.json"));
}

TEST(Scale, DoesNotCallTooFewRepetitionsEnough) {
  const ScratchDirectory scratch;
  const Ended ended = run_tool("scale --measure layer --shapes 2x3x4x4 --cell-seconds 0 --output " +
                               (scratch / "run").string());
  ASSERT_EQ(ended.code, 0) << ended.err;
  const json cell = report_of(scratch / "run")["cells"][0];
  EXPECT_GE(cell["sync_forward"]["count"], 6);
  EXPECT_LT(cell["sync_forward"]["count"], 10);
  EXPECT_EQ(cell["enough"], false);
}

TEST(Scale, RefusesTheDirectoryOfAnotherRun) {
  const ScratchDirectory scratch;
  const fs::path run = scratch / "run";
  ASSERT_EQ(run_tool(quick + run.string()).code, 0);
  const auto before = cells_of(run);
  const Ended ended = run_tool(quick + run.string() + " --dtype f64");
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("another run measured (dtype: \"f32\" there, \"f64\" here)"));
  EXPECT_EQ(cells_of(run), before);
}

TEST(Scale, RefusesFilesThatItDidNotWrite) {
  const ScratchDirectory scratch;
  const fs::path run = scratch / "run";
  ASSERT_EQ(run_tool(quick + run.string()).code, 0);
  std::ofstream(run / "cells/noise.json") << "{\"entries\": ";
  const Ended broken = run_tool(quick + run.string());
  EXPECT_EQ(broken.code, 1);
  EXPECT_THAT(broken.err, HasSubstr("noise.json is no JSON object"));
  std::ofstream(run / "cells/noise.json") << "{\"entries\": 3}";
  const Ended foreign = run_tool(quick + run.string());
  EXPECT_EQ(foreign.code, 1);
  EXPECT_THAT(foreign.err, HasSubstr("noise.json is no cell"));
  fs::remove(run / "run.json");
  const Ended unknown = run_tool(quick + run.string());
  EXPECT_EQ(unknown.code, 1);
  EXPECT_THAT(unknown.err, HasSubstr("run.json is missing"));
}

TEST(Scale, TellsWhatIsWrongWithTheCommandLine) {
  const ScratchDirectory scratch;
  const std::string output = (scratch / "run").string();
  const Ended nowhere = run_tool("scale");
  EXPECT_EQ(nowhere.code, 2);
  EXPECT_THAT(nowhere.err, HasSubstr("--output is missing"));
  const Ended too_many = run_tool(quick + output + " --ranks 1,2");
  EXPECT_EQ(too_many.code, 2);
  EXPECT_THAT(too_many.err, HasSubstr("--ranks must be an integer from 1 to 1 (it is '2')"));
  const Ended no_data = run_tool(quick + output + " --train --data " + output);
  EXPECT_EQ(no_data.code, 1);
  EXPECT_THAT(no_data.err, HasSubstr(output));
  const Ended nothing = run_tool("scale --measure exchange --output " + output);
  EXPECT_EQ(nothing.code, 2);
  EXPECT_THAT(nothing.err, HasSubstr("nothing to measure"));
  EXPECT_FALSE(fs::exists(output));
  const Ended twice = run_tool("scale --shapes 4x3,6x10,4x3 --output " + output);
  EXPECT_EQ(twice.code, 2);
  EXPECT_THAT(twice.err, HasSubstr("--shapes has 4x3 twice"));
  std::ofstream(scratch / "file") << "text";
  const Ended file = run_tool(quick + (scratch / "file").string());
  EXPECT_EQ(file.code, 1);
  EXPECT_THAT(file.err, HasSubstr("cannot be made"));
  EXPECT_EQ(read_file(scratch / "file"), "text");
}

}  // namespace
}  // namespace syncbn::test
