// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/run_tool.hpp"
#include "support/scratch_directory.hpp"

namespace syncbn::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

TEST(Usage, NoCommandShowsTheCommands) {
  const Ended ended = run_tool("");
  EXPECT_EQ(ended.code, 2);
  EXPECT_THAT(ended.out, IsEmpty());
  EXPECT_THAT(ended.err, AllOf(HasSubstr("train"), HasSubstr("check"), HasSubstr("bench"),
                               HasSubstr("info"), HasSubstr("doctor")));
}

TEST(Usage, HelpOfTheToolGoesToStandardOutput) {
  for (const char* spelling : {"--help", "-h"}) {
    const Ended ended = run_tool(spelling);
    EXPECT_EQ(ended.code, 0);
    EXPECT_THAT(ended.out, HasSubstr("syncbn COMMAND --help"));
    EXPECT_THAT(ended.err, IsEmpty());
  }
}

TEST(Usage, InfoSaysWhetherThereAreHugePages) {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string setting;
  std::getline(file, setting);
  const std::string told = run_tool("info").out;
  const bool never = setting.find("[never]") != std::string::npos;
  EXPECT_THAT(told, HasSubstr("\nhuge pages    "));
  EXPECT_EQ(told.find("huge pages    never") != std::string::npos, never) << told;
}

TEST(Usage, VersionIsOneLine) {
  const Ended ended = run_tool("--version");
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.out, testing::MatchesRegex("syncbn [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST(Usage, EveryCommandHasHelpWithDefaultsAndAnExample) {
  for (const std::string command :
       {"train", "check", "bench", "scale", "study", "info", "doctor"}) {
    const Ended ended = run_tool(command + " --help");
    EXPECT_EQ(ended.code, 0) << command;
    EXPECT_THAT(ended.out, StartsWith("syncbn " + command + " [option]..")) << command;
    EXPECT_THAT(ended.out, HasSubstr("--timeout SECONDS")) << command;
    EXPECT_THAT(ended.out, HasSubstr("(default: 300)")) << command;
    EXPECT_THAT(ended.out, HasSubstr("Examples:\n")) << command;
    EXPECT_THAT(ended.err, IsEmpty()) << command;
  }
}

TEST(Usage, InfoTellsWhatTheBuildHas) {
  const Ended ended = run_tool("info");
  EXPECT_EQ(ended.code, 0);
  for (const char* part : {"instructions", "threads", "exchange", "oneDNN", "ranks", "rank 0"}) {
    EXPECT_THAT(ended.out, HasSubstr(part));
  }
}

/// Arguments that are refused, and what the message must say.
struct Refused {
  const char* arguments;
  std::vector<std::string> parts;
};

void PrintTo(const Refused& refused, std::ostream* out) {
  *out << refused.arguments;
}

class UsageRefuses : public testing::TestWithParam<Refused> {};

TEST_P(UsageRefuses, WithExitCode2AndNamesWhatIsAccepted) {
  const Ended ended = run_tool(GetParam().arguments);
  EXPECT_EQ(ended.code, 2);
  EXPECT_THAT(ended.out, IsEmpty());
  for (const std::string& part : GetParam().parts) {
    EXPECT_THAT(ended.err, HasSubstr(part));
  }
  EXPECT_THAT(ended.err, HasSubstr("--help'"));
}

INSTANTIATE_TEST_SUITE_P(
    CommandLine, UsageRefuses,
    testing::Values(
        Refused{
            "chek",
            {"'chek'", "train, check, bench, scale, study, info, doctor", "Did you mean 'check'?"}},
        Refused{"--fast", {"'--fast'", "train, check, bench, scale, study, info, doctor"}},
        Refused{"check --jsn x", {"--jsn", "--dtype, --layout, ", "Did you mean '--json'?"}},
        Refused{"check --dtyp f32", {"--dtyp", "--dtype"}}, Refused{"check surplus", {"'surplus'"}},
        Refused{"check -- surplus", {"'surplus'"}},
        Refused{"check --dtype f8", {"--dtype", "'f8'", "f32, f64, f16, bf16"}},
        Refused{"check --dtype f32,", {"--dtype", "''"}},
        Refused{"check --dtype f32,f32", {"--dtype", "'f32' twice"}},
        Refused{"check --layout NCHW", {"--layout", "channels_first, channels_last"}},
        Refused{"check --seed", {"--seed", "missing"}},
        Refused{"check --seed -1", {"--seed", "'-1'", "at least 0"}},
        Refused{"check --seed 1e3", {"--seed", "'1e3'", "an integer"}},
        Refused{"check --quick=yes", {"--quick"}},
        Refused{"check --json --exact", {"--json has no value", "'--exact'", "--json=--exact"}},
        Refused{"train --log --elastic", {"--log has no value", "'--elastic'"}},
        Refused{"train --steps 1 --save --log x", {"--save has no value", "'--log'"}},
        Refused{"info --flight-record --timeout 3", {"--flight-record has no value"}},
        Refused{"check --seed --", {"--seed has no value"}},
        Refused{"train --steps 1 --resume=", {"--resume has no value", "empty"}},
        Refused{"check --quick --quick", {"--quick is given twice"}},
        Refused{"check --timeout 0", {"--timeout", "above 0", "'0'"}},
        Refused{"check --timeout nan", {"--timeout", "'nan'"}},
        Refused{"check --timeout 3 --report-after 9", {"--report-after 9", "3 s (--timeout)"}},
        Refused{"check --flight-record /dev/null/x", {"--flight-record", "cannot be made"}},
        Refused{"check --device gpu", {"--device", "'gpu'", "cpu, cuda, emulated"}},
        Refused{"check --exchange nccl", {"--exchange nccl", "--device is cpu"}},
        Refused{"bench --device cuda --compare onednn", {"--compare onednn", "--device"}},
        Refused{"train --exchange nccl", {"--exchange", "'nccl'", "builtin, mpi"}},
        Refused{"bench --repeat 0", {"--repeat", "from 1 to ", "'0'"}},
        Refused{"bench --min-time -1", {"--min-time", "from 0 to ", "'-1'"}},
        Refused{"bench --threads 1.5", {"--threads", "an integer", "'1.5'"}},
        Refused{"bench --shapes resnet5", {"'resnet5'", "resnet50", "32x64x56x56"}},
        Refused{"bench --shapes 7", {"'7'", "32x64x56x56"}},
        Refused{"bench --shapes 4x0", {"--shapes", "from 1 to ", "'0'"}},
        Refused{"bench --shapes 1000000x1000000", {"--shapes", "2^34"}},
        Refused{"bench --shapes 4x4 --batch 3", {"--batch", "--shapes", "contradict"}},
        Refused{"bench --compare pytorch", {"--compare", "'pytorch'", "onednn, local"}},
        Refused{"train --norm synk",
                {"--norm", "none, affine, local, sync", "Did you mean 'sync'?"}},
        Refused{"doctor --jsn x", {"--jsn", "Did you mean '--json'?"}},
        Refused{"info --json x", {"--json", "--help, --timeout"}}));

TEST(Failure, APlaceThatCannotBeWrittenIsToldBeforeTheWork) {
  const Ended ended = run_tool("check --json /nonexistent/report.json");
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.out, IsEmpty());
  EXPECT_THAT(ended.err, AllOf(StartsWith("syncbn check: "), HasSubstr("/nonexistent")));
}

TEST(Failure, OfADirectoryForFlightRecordsThatCannotBeWrittenToIsToldBeforeTheWork) {
  const Ended ended = run_tool("check --flight-record /proc/self");
  EXPECT_EQ(ended.code, 2);
  EXPECT_THAT(ended.out, IsEmpty());
  EXPECT_THAT(ended.err, HasSubstr("/proc/self cannot be written to"));
}

TEST(Failure, OfADeviceThatCannotBeHadNamesWhatCan) {
  int refused = 0;
  for (const std::string device : {"cuda", "emulated"}) {
    const Ended ended = run_tool("check --quick --dtype f32 --device " + device);
    if (ended.code != 0) {
      ++refused;
      EXPECT_EQ(ended.code, 2) << ended.err;
      EXPECT_THAT(ended.out, IsEmpty());
      EXPECT_THAT(ended.err, AllOf(HasSubstr("--device " + device + " cannot be had ("),
                                   HasSubstr("or give --device ")));
    }
  }
  EXPECT_GE(refused, 1) << "a device is real or emulated";
}

TEST(Failure, OfTheCommandLineLeavesNoDirectoryForFlightRecords) {
  const ScratchDirectory scratch;
  const std::filesystem::path flight = scratch / "flight";
  for (const std::string refused : {"check --bad", "train --epochs 1 --steps 1", "bench --batch 3x",
                                    "bench --batch 3 --shapes 4x4"}) {
    const Ended ended = run_tool(refused + " --flight-record " + flight.string());
    EXPECT_EQ(ended.code, 2) << refused;
    EXPECT_FALSE(std::filesystem::exists(flight)) << refused;
  }
}

TEST(Failure, OfMemoryNamesWhatItWasFor) {
  const std::string limit = at_most_memory(3'000'000'000);
  if (limit.empty()) {
    GTEST_SKIP() << "memory cannot be limited in this build";
  }
  const Ended ended =
      run_shell(limit + "exec " SYNCBN_PROGRAM " bench --shapes 16x1024x1024x1024 --repeat 1");
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("memory ran out for tensors of 16x1024x1024x1024"));
}

TEST(Failure, SoIsAPlaceForFlightRecordsThatTheEnvironmentNames) {
  const Ended ended =
      run_shell("SYNCBN_FLIGHT_RECORD=/dev/null/x exec " SYNCBN_PROGRAM " check --quick");
  EXPECT_EQ(ended.code, 2);
  EXPECT_THAT(ended.out, IsEmpty());
  EXPECT_THAT(ended.err,
              AllOf(HasSubstr("/dev/null/x cannot be made"), HasSubstr("SYNCBN_FLIGHT_RECORD")));
}

TEST(Failure, ProcessesThatDoNotKnowOfEachOtherAreRefused) {
  const auto started_as = [](const char* tasks) {
    return run_shell(std::string("SLURM_STEP_NUM_TASKS=") + tasks +
                     " exec " SYNCBN_PROGRAM " check --quick --dtype f32");
  };
  const Ended ended = started_as("2");
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.out, IsEmpty());
  EXPECT_THAT(ended.err, AllOf(HasSubstr("started as 2 processes by srun"), HasSubstr("MPI")));
  EXPECT_EQ(started_as("1").code, 0);
}

TEST(Usage, HelpNeedsNoWorld) {
  const Ended ended =
      run_shell("SLURM_STEP_NUM_TASKS=2 SYNCBN_TIMEOUT=soon exec " SYNCBN_PROGRAM " check --help");
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, StartsWith("syncbn check [option].."));
}

}  // namespace
}  // namespace syncbn::test
