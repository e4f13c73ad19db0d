// SPDX-License-Identifier: Apache-2.0
#include "comm/group/flight_record.hpp"

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/deliveries.hpp"
#include "comm/group/access.hpp"
#include "comm/group/group.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/scratch_directory.hpp"

namespace syncbn {
namespace {

using nlohmann::json;

json record_of(const Communicator& group) {
  return json::parse(group.flight_record());
}

TEST(FlightRecord, TellsWhatWasExchangedAndWhen) {
  test::on_ranks([](const Communicator& group) {
    std::vector<double> data(5, 1.0);
    comm::Access::group(group).exchange({.operation = &test::delivery,
                                         .subject = "a \"name\"\n\xff",
                                         .count = 2,
                                         .dtype = DType::f16,
                                         .options = "cooled",
                                         .facts = {0xffff'ffff'ffff'fff0, 3}},
                                        data);
    group.all_reduce(data);
    const json record = record_of(group);
    EXPECT_EQ(record["rank"], group.rank());
    EXPECT_EQ(record["size"], group.size());
    if (group.size() == 1) {
      EXPECT_TRUE(record["exchanges"].empty());
      return;
    }
    ASSERT_EQ(record["exchanges"].size(), 2);
    const json& first = record["exchanges"][0];
    EXPECT_EQ(first["sequence"], 1);
    EXPECT_EQ(first["operation"], "delivery");
    EXPECT_THAT(first["subject"], testing::StartsWith("a \"name\"\n"));
    EXPECT_EQ(first["count"], 2);
    EXPECT_EQ(first["options"], "cooled");
    EXPECT_EQ(first["facts"], (json{{"price list", 0xffff'ffff'ffff'fff0}, {"carts", 3}}))
        << "those that are 0 are left out";
    EXPECT_EQ(record["exchanges"][1]["operation"], "all_reduce");
    EXPECT_EQ(first["dtype"], "f16");
    EXPECT_EQ(first["values"], 5);
    EXPECT_GE(first["seconds"], 0);
    EXPECT_LE(first["started"], record["exchanges"][1]["started"]);
    EXPECT_NEAR(first["started"], static_cast<double>(std::time(nullptr)), 60);
  });
}

TEST(FlightRecord, HasRoomForALimitedNumberOfOperations) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < 2 * comm::FlightRecord::most_operations; ++i) {
    names.push_back("delivery no. " + std::to_string(i));
  }
  test::on_ranks([&](const Communicator& group) {
    std::vector<double> data(1);
    for (int round = 0; round < 2; ++round) {
      for (const std::string& name : names) {
        const comm::Operation operation(name);
        comm::Access::group(group).exchange({.operation = &operation}, data);
      }
    }
    if (group.size() == 1) {
      return;
    }
    const json exchanges = record_of(group)["exchanges"];
    for (std::size_t i = 0; i < exchanges.size(); ++i) {
      const std::size_t which = i % names.size();
      EXPECT_EQ(exchanges[i]["operation"], which < comm::FlightRecord::most_operations - 1
                                               ? names[which]
                                               : "another operation");
    }
  });
}

TEST(FlightRecord, NamesItsGroup) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    const auto number_of = [](const Communicator& one) -> std::uint64_t {
      return std::stoull(record_of(one)["group"].get<std::string>(), nullptr, 16);
    };
    const Communicator half = group.split(group.rank() % 2);
    const Communicator again = group.split(group.rank() % 2);
    std::vector<double> mine;  // in halves, which doubles hold
    for (const std::uint64_t number : {number_of(group), number_of(half), number_of(again)}) {
      mine.push_back(static_cast<double>(number >> 32));
      mine.push_back(static_cast<double>(number & 0xffffffff));
    }
    const std::vector<double> all = group.all_gather(mine);
    std::set<std::pair<double, double>> numbers;
    for (std::size_t i = 0; i < all.size(); i += 2) {
      numbers.insert({all[i], all[i + 1]});
    }
    EXPECT_EQ(numbers.size(), 1 + 2 * 2) << "the group, and two halves of each split";
  });
}

TEST(FlightRecord, KeepsTheLastThousand) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    std::vector<double> data(1);
    for (int i = 0; i < 1234; ++i) {
      group.all_reduce(data);
    }
    const json exchanges = record_of(group)["exchanges"];
    ASSERT_EQ(exchanges.size(), 1000);
    EXPECT_EQ(exchanges.front()["sequence"], 235);
    EXPECT_EQ(exchanges.back()["sequence"], 1234);
  });
}

TEST(FlightRecord, IsWrittenWhenAnExchangeFails) {
  const test::ScratchDirectory scratch;
  const std::filesystem::path directory = scratch / "made/for/it";
  set_flight_record_directory(directory);
  std::vector<Communicator> group = Communicator::threads(2, std::chrono::milliseconds(50));
  std::vector<double> data(3);
  EXPECT_THROW(group[0].all_reduce(data), CommError);
  set_flight_record_directory({});

  std::vector<std::filesystem::path> files(std::filesystem::directory_iterator(directory), {});
  ASSERT_EQ(files.size(), 1);
  std::ifstream file(files[0]);
  const json record = json::parse(file);
  EXPECT_EQ(record["rank"], 0);
  EXPECT_THAT(record["failure"], testing::HasSubstr("rank 1 did not come"));
  ASSERT_EQ(record["exchanges"].size(), 1);
  EXPECT_TRUE(record["exchanges"][0]["seconds"].is_null());

  // And without a directory it is not.
  EXPECT_THROW(group[1].all_reduce(data), CommError);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory), {}), 1);
}

TEST(FlightRecord, TouchesNoFileOrLinkOfItsName) {
  const test::ScratchDirectory scratch;
  std::filesystem::create_directory(scratch / "records");
  std::ofstream(scratch / "victim") << "precious";
  std::string host(256, '\0');
  ::gethostname(host.data(), host.size());
  host.resize(host.find('\0'));
  const std::string guessed = host + "-" + std::to_string(::getpid()) + "-";
  constexpr int planted = 20;  // more than this program has written
  for (int number = 0; number < planted; ++number) {
    std::filesystem::create_symlink(
        "../victim", scratch / "records" / (guessed + std::to_string(number) + ".json"));
  }
  set_flight_record_directory(scratch / "records");
  std::vector<Communicator> group = Communicator::threads(2, std::chrono::milliseconds(50));
  std::vector<double> data(3);
  EXPECT_THROW(group[0].all_reduce(data), CommError);
  set_flight_record_directory({});

  std::ifstream victim(scratch / "victim");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(victim), {}), "precious");
  std::ifstream file(scratch / "records" / (guessed + std::to_string(planted) + ".json"));
  EXPECT_EQ(json::parse(file)["rank"], 0);
}

TEST(FlightRecord, ThatCannotBeWrittenIsReportedAndChangesNothing) {
  std::string reported;
  set_report_handler([&](std::string_view line) { reported = line; });
  set_flight_record_directory("/dev/null/not/a/directory");
  std::vector<Communicator> group = Communicator::threads(2, std::chrono::milliseconds(50));
  std::vector<double> data(3);
  EXPECT_THAT(test::failure_of<CommError>([&] { group[0].all_reduce(data); }),
              testing::HasSubstr("rank 1 did not come"));
  set_flight_record_directory({});
  set_report_handler({});
  EXPECT_THAT(reported, testing::HasSubstr("flight record was not written"));
}

}  // namespace
}  // namespace syncbn
