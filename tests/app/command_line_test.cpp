// SPDX-License-Identifier: Apache-2.0

// What a command line's General options come to.

#include <chrono>
#include <cstdlib>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "app/args.hpp"
#include "support/failure.hpp"

namespace syncbn::test {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

/// Sets a variable of the environment while it lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

app::ExchangeOptions exchange_of(const app::Arguments& arguments) {
  app::CommandLine line("demo", "Has the General options.", app::RunsOn::cpu_or_cuda);
  EXPECT_TRUE(line.parse(arguments));
  return line.exchange();
}

TEST(CommandLine, LeavesTheExchangeToTheLibraryUnlessTold) {
  const app::ExchangeOptions exchange = exchange_of({});
  EXPECT_EQ(exchange.deadlines.fail, default_timeout);
  EXPECT_EQ(exchange.deadlines.report, default_report);
  EXPECT_EQ(exchange.summation, std::nullopt);
  EXPECT_EQ(exchange.flight_record, "");
  EXPECT_EQ(exchange_of({"--exchange", "builtin"}).summation, app::Summation::builtin);
}

TEST(CommandLine, TakesDeadlinesInFractionsOfSeconds) {
  const app::ExchangeOptions exchange = exchange_of({"--report-after=0.25", "--timeout", "1.5"});
  EXPECT_EQ(exchange.deadlines.fail, milliseconds(1500));
  EXPECT_EQ(exchange.deadlines.report, milliseconds(250));
}

TEST(CommandLine, PrefersOptionsToTheEnvironment) {
  const Variable timeout("SYNCBN_TIMEOUT", "7");
  const Variable directory("SYNCBN_FLIGHT_RECORD", "from-environment");
  EXPECT_EQ(exchange_of({}).deadlines.fail, milliseconds(7000));
  EXPECT_EQ(exchange_of({}).flight_record, "from-environment");
  EXPECT_EQ(exchange_of({"--timeout", "9"}).deadlines.fail, milliseconds(9000));
  EXPECT_EQ(exchange_of({"--flight-record", "given"}).flight_record, "given");
  EXPECT_THROW(exchange_of({"--report-after", "8"}), app::UsageError);
}

TEST(CommandLine, RefusesATimeoutOfTheEnvironmentThatCannotBeUsed) {
  const Variable timeout("SYNCBN_TIMEOUT", "soon");
  EXPECT_THAT(failure_of<InvalidArgument>([&] { exchange_of({}); }), HasSubstr("'soon'"));
}

TEST(CommandLine, AsksForHelpWhateverElseIsGiven) {
  const Variable timeout("SYNCBN_TIMEOUT", "soon");
  app::CommandLine line("demo", "Has the General options.");
  EXPECT_FALSE(line.parse({"--bad", "--help"}));
  EXPECT_THAT(line.help(), HasSubstr("--timeout SECONDS"));
}

}  // namespace
}  // namespace syncbn::test
