// SPDX-License-Identifier: Apache-2.0
#include "app/flight_records.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "syncbn/error.hpp"

namespace syncbn::app {
namespace {

constexpr std::int64_t most_integer = std::numeric_limits<std::int64_t>::max();

struct Exchange {
  std::string what;               ///< "forward of 'bn1' (C=64, f32, 130 values)"
  std::string state;              ///< options, and the facts: "eps 1e-05, of forward: 12"
  double started;                 ///< [s since 1970]
  std::optional<double> seconds;  ///< none: not finished
};

struct Record {
  std::string group;  ///< the group's number, "" in a record without one
  int rank, size;
  std::string host, failure;
  std::int64_t process;
  std::map<std::int64_t, Exchange> exchanges;  ///< by sequence number
};

/// Unusable says why a file is no flight record, or cannot be read.
class Unusable : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr const char* not_a_record = "is no flight record, or not a whole one";

/// Returns `value` as an integer. Throws Unusable for a fraction and a number out of range, which
/// this library does not write.
std::int64_t integer(const nlohmann::json& value, std::int64_t least, std::int64_t most) {
  const bool fits = value.is_number_unsigned()
                        ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most) &&
                              static_cast<std::int64_t>(value.get<std::uint64_t>()) >= least
                        : value.is_number_integer() && value.get<std::int64_t>() >= least &&
                              value.get<std::int64_t>() <= most;
  if (!fits) {
    throw Unusable(not_a_record);
  }
  return value.get<std::int64_t>();
}

std::uint64_t unsigned_integer(const nlohmann::json& value) {
  if (!value.is_number_unsigned()) {
    throw Unusable(not_a_record);
  }
  return value.get<std::uint64_t>();
}

double number(const nlohmann::json& value, double most) {
  const double result = value.is_number() ? value.get<double>() : -1;
  if (!(result >= 0 && result <= most)) {
    throw Unusable(not_a_record);
  }
  return result;
}

/// Returns ", NAME: NUMBER" for each fact; fingerprints are shortened.
std::string facts_of(const nlohmann::json& facts) {
  constexpr std::uint64_t shown = 100000;
  std::string text;
  for (const auto& [name, value] : facts.items()) {
    text += fmt::format(", {}: {}", name, unsigned_integer(value) % shown);
  }
  return text;
}

Exchange exchange_of(const nlohmann::json& entry) {
  constexpr double year_10000 = 253402300800;  // [s since 1970]
  constexpr double century = 3155760000;       // [s]
  const std::string subject = entry.at("subject");
  const std::string operation = entry.at("operation");
  const std::int64_t values = integer(entry.at("values"), 0, most_integer);
  const nlohmann::json& seconds = entry.at("seconds");
  return {subject.empty() ? fmt::format("{} of {} values", operation, values)
                          : fmt::format("{} of '{}' (C={}, {}, {} values)", operation, subject,
                                        integer(entry.at("count"), 0, most_integer),
                                        entry.at("dtype").get<std::string>(), values),
          entry.at("options").get<std::string>() + facts_of(entry.at("facts")),
          number(entry.at("started"), year_10000),
          seconds.is_null() ? std::nullopt : std::optional<double>(number(seconds, century))};
}

Record parsed(const nlohmann::json& json) {
  constexpr int most_ranks = std::numeric_limits<int>::max();
  const nlohmann::json group = json.value("group", nlohmann::json());  // older records have none
  const auto size = static_cast<int>(integer(json.at("size"), 1, most_ranks));
  Record record{group.is_null() ? "" : group,
                static_cast<int>(integer(json.at("rank"), 0, size - 1)),
                size,
                json.at("host"),
                json.at("failure"),
                integer(json.at("process"), 0, most_integer),
                {}};
  for (const nlohmann::json& entry : json.at("exchanges")) {
    record.exchanges[integer(entry.at("sequence"), 0, most_integer)] = exchange_of(entry);
  }
  return record;
}

/// Reads a record. Checks the file's type and size first, as reading a pipe would wait.
Record read(const std::filesystem::path& path) {
  constexpr std::uintmax_t most_bytes = std::uintmax_t{1} << 26;  // 1,000 exchanges take less
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw Unusable("cannot be read (it is not a regular file)");
  }
  if (std::filesystem::file_size(path, error) > most_bytes) {
    throw Unusable("is no flight record (it is too large)");
  }
  std::ifstream file(path);
  if (!file) {
    throw Unusable("cannot be read");
  }
  try {
    return parsed(nlohmann::json::parse(file));
  } catch (const nlohmann::json::exception&) {
    throw Unusable(not_a_record);
  } catch (const std::ios_base::failure&) {
    throw Unusable("cannot be read");
  }
}

/// Reads all records of a directory, in order of group size and rank. Files that are none are named
/// in `left_out`.
std::vector<Record> read_all(const std::filesystem::path& directory, std::string& left_out) {
  std::error_code error;
  std::vector<Record> records;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (entry.path().extension() != ".json") {
      continue;
    }
    try {
      records.push_back(read(entry.path()));
    } catch (const Unusable& unusable) {
      left_out += fmt::format("left out: {} {}\n", entry.path().string(), unusable.what());
    }
  }
  if (error) {
    throw FileError(fmt::format("{} cannot be read: {}.", directory.string(), error.message()));
  }
  if (records.empty()) {
    throw FileError(fmt::format(
        "there are no flight records in {}. They are written when an exchange fails, by runs with "
        "--flight-record or SYNCBN_FLIGHT_RECORD.{}{}",
        directory.string(), left_out.empty() ? "" : "\n", left_out));
  }
  std::ranges::sort(records, {}, [](const Record& r) { return std::tuple(r.size, r.rank); });
  return records;
}

std::tm local_time(std::int64_t since_1970) {
  const auto whole = static_cast<std::time_t>(since_1970);
  std::tm local{};
  localtime_r(&whole, &local);
  return local;
}

/// Returns the local time, "12:34:56.789". It is rounded as a whole, so that 59.9996 s become the
/// next minute.
std::string time_of_day(double since_1970) {
  const std::int64_t milliseconds = std::llround(1000 * since_1970);
  const std::tm local = local_time(milliseconds / 1000);
  return fmt::format("{:02}:{:02}:{:02}.{:03}", local.tm_hour, local.tm_min, local.tm_sec,
                     milliseconds % 1000);
}

std::string last_of(const Record& record) {
  if (record.exchanges.empty()) {
    return "exchanged nothing";
  }
  const auto& [sequence, last] = *record.exchanges.rbegin();
  return fmt::format(
      "last #{}, {}, begun {}, {}", sequence, last.what, time_of_day(last.started),
      last.seconds ? fmt::format("took {:.3g} ms", 1e3 * *last.seconds) : "not finished");
}

/// Describes the first exchange that is not the same in all of these records; "" if there is none.
std::string parting(const std::vector<const Record*>& records) {
  std::map<std::int64_t, std::map<std::pair<std::string, std::string>, std::vector<int>>> who;
  std::int64_t from = 0;  // the first exchange that all records still hold
  for (const Record* record : records) {
    if (!record->exchanges.empty()) {
      from = std::max(from, record->exchanges.begin()->first);
    }
    for (const auto& [sequence, exchange] : record->exchanges) {
      who[sequence][{exchange.what, exchange.state}].push_back(record->rank);
    }
  }
  for (const auto& [sequence, views] : who) {
    std::size_t ranks = 0;
    for (const auto& [view, members] : views) {
      ranks += members.size();
    }
    if (sequence < from || (views.size() == 1 && ranks == records.size())) {
      continue;
    }
    std::string text = fmt::format("the ranks part at exchange #{}:\n", sequence);
    for (const auto& [view, members] : views) {
      const bool only_state =
          std::ranges::count(views, view.first, [](const auto& v) { return v.first.first; }) > 1;
      text += fmt::format("  rank {}: {}{}\n", fmt::join(members, ", "), view.first,
                          only_state ? " with " + view.second : "");
    }
    for (const Record* record : records) {
      if (!record->exchanges.contains(sequence)) {
        text += fmt::format("  rank {}: has not come to it\n", record->rank);
      }
    }
    return text;
  }
  return "";
}

/// Returns when the last exchange of these records was begun, 0 if there was none. [s since 1970]
double last_begun(const std::vector<const Record*>& records) {
  double last = 0;
  for (const Record* record : records) {
    for (const auto& [sequence, exchange] : record->exchanges) {
      last = std::max(last, exchange.started);
    }
  }
  return last;
}

/// Sorts records into groups. The group whose last exchange is the latest comes last.
std::vector<std::vector<const Record*>> by_group(const std::vector<Record>& records) {
  std::map<std::pair<std::string, int>, std::vector<const Record*>> found;
  for (const Record& record : records) {
    found[{record.group, record.size}].push_back(&record);
  }
  std::vector<std::vector<const Record*>> groups;
  for (auto& [key, group] : found) {
    groups.push_back(std::move(group));
  }
  std::ranges::stable_sort(groups, {}, last_begun);
  return groups;
}

/// Names the ranks without a record: "1, 4-7". `records` are in the order of their ranks.
std::string ranks_without(const std::vector<const Record*>& records, int size) {
  std::string text;
  int next = 0;  // the lowest rank that has not been looked for
  const auto add_gap = [&](int end) {
    if (next < end) {
      text += text.empty() ? "" : ", ";
      text += next + 1 == end ? fmt::format("{}", next) : fmt::format("{}-{}", next, end - 1);
    }
  };
  for (const Record* record : records) {
    add_gap(record->rank);
    next = record->rank + 1;
  }
  add_gap(size);
  return text;
}

std::string date_of(double since_1970) {
  if (since_1970 == 0) {
    return "";
  }
  const std::tm local = local_time(static_cast<std::int64_t>(since_1970));
  return fmt::format(", {}-{:02}-{:02} {:02}:{:02}:{:02}", local.tm_year + 1900, local.tm_mon + 1,
                     local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec);
}

}  // namespace

std::string describe_flight_records(const std::filesystem::path& directory) {
  std::string left_out;
  const std::vector<Record> records = read_all(directory, left_out);
  std::string text;
  for (const std::vector<const Record*>& group : by_group(records)) {
    const int size = group.front()->size;
    text += fmt::format("{}group of {} ranks{}\n", text.empty() ? "" : "\n", size,
                        date_of(last_begun(group)));
    for (const Record* record : group) {
      text += fmt::format("rank {} on {}, process {}: {}\n", record->rank, record->host,
                          record->process, last_of(*record));
      if (!record->failure.empty()) {
        text += fmt::format("    {}\n", record->failure);
      }
    }
    const bool several = std::ranges::adjacent_find(group, {}, &Record::rank) != group.end();
    if (several) {
      text +=
          group.front()->group.empty()
              ? "There are records of several groups that have no number: they are not compared.\n"
              : "A rank has several records, copies perhaps: they are not compared.\n";
      continue;
    }
    const std::string without = ranks_without(group, size);
    if (!without.empty()) {
      text += fmt::format(
          "without a record (stopped, killed, or written on another host): rank {}\n", without);
    }
    text += parting(group);
  }
  return text + left_out;
}

}  // namespace syncbn::app
