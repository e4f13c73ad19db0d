// SPDX-License-Identifier: Apache-2.0
//
// syncbn info --flight-record, on files of all kinds.
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "app/run_tool.hpp"
#include "support/scratch_directory.hpp"

namespace syncbn::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// A record of rank 0; `fields` are "size", and what else is to be said of the group.
std::string record(const std::string& size, const std::string& exchanges = "") {
  return R"({"group": "a1", "rank": 0, "size": )" + size +
         R"(, "host": "a", "process": 1, "failure": "", "exchanges": [)" + exchanges + "]}";
}

std::string exchange(const std::string& started, const std::string& values = "130") {
  return R"({"sequence": 1, "operation": "forward", "subject": "bn1", "count": 64, "dtype": "f32",)"
         R"( "options": "", "facts": {}, "values": )" +
         values + R"(, "started": )" + started + R"(, "seconds": null})";
}

class FlightRecords : public testing::Test {
 protected:
  FlightRecords() { write("good.json", record("1")); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(scratch_ / name) << text;
  }

  /// Within 1 GB of memory.
  Ended shown() const {
    const Ended ended = run_shell(at_most_memory(1'000'000'000) +
                                  "TZ=UTC exec " SYNCBN_PROGRAM " info --flight-record " +
                                  scratch_.path().string());
    EXPECT_EQ(ended.code, 0) << ended.err;
    EXPECT_THAT(ended.out, HasSubstr("rank 0 on a")) << "the good one";
    return ended;
  }

  ScratchDirectory scratch_;
};

TEST_F(FlightRecords, OfAnEnormousGroupCostNoMemory) {
  write("enormous.json", record("2147483647"));
  EXPECT_THAT(shown().out, HasSubstr("another host): rank 1-2147483646\n"));
}

TEST_F(FlightRecords, WithNumbersThatNobodyWritesAreLeftOut) {
  const std::string bad[] = {record("1e300"),
                             record("0"),
                             record("-1"),
                             record("2147483648"),
                             record("18446744073709551615"),
                             record("1", exchange("1e300")),
                             record("1", exchange("-1")),
                             record("1", exchange("2000.5", "1e300")),
                             record("1", exchange("2000.5", "1.5"))};
  for (const std::string& text : bad) {
    write("bad.json", text);
    EXPECT_THAT(shown().out, HasSubstr("bad.json is no flight record")) << text;
  }
}

TEST_F(FlightRecords, ThatArePipesAreLeftOut) {
  ASSERT_EQ(::mkfifo((scratch_ / "pipe.json").c_str(), 0600), 0);
  EXPECT_THAT(shown().out, HasSubstr("pipe.json cannot be read (it is not a regular file)"));
}

TEST_F(FlightRecords, ThatAreTooLargeAreLeftOut) {
  write("large.json", "");
  std::filesystem::resize_file(scratch_ / "large.json", std::uintmax_t{1} << 32);
  EXPECT_THAT(shown().out, HasSubstr("large.json is no flight record (it is too large)"));
}

TEST_F(FlightRecords, BegunJustBeforeTheFullMinuteShowTheFullMinute) {
  write("good.json", record("1", exchange("28799.9996")));
  EXPECT_THAT(shown().out, AllOf(HasSubstr("begun 08:00:00.000"), Not(HasSubstr(":60"))));
  write("good.json", record("1", exchange("28799.9994")));
  EXPECT_THAT(shown().out, HasSubstr("begun 07:59:59.999"));
}

}  // namespace
}  // namespace syncbn::test
