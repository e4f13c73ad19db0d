// SPDX-License-Identifier: Apache-2.0
#include "comm/group/flight_files.hpp"

#include <array>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <mutex>
#include <optional>
#include <unistd.h>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "syncbn/communicator.hpp"

#include "core/atomic_file.hpp"

#include "comm/group/deadlines.hpp"

namespace syncbn {
namespace comm {
namespace {

using Json = nlohmann::ordered_json;

struct Place {
  std::mutex mutex;
  std::optional<std::filesystem::path> directory;  ///< if not set: the environment's
  int files = 0;                                   ///< names given out by this process
};

Place& place() {
  static Place the_place;
  return the_place;
}

/// Returns a name that no other call returns; empty if there is no directory of flight records.
std::filesystem::path next_file() {
  const std::scoped_lock lock(place().mutex);
  std::filesystem::path directory;
  if (place().directory) {
    directory = *place().directory;
  } else if (const char* named = std::getenv("SYNCBN_FLIGHT_RECORD")) {
    directory = named;
  }
  if (directory.empty()) {
    return {};
  }
  return directory / (host_name() + "-" + std::to_string(getpid()) + "-" +
                      std::to_string(place().files++) + ".json");
}

// Returns a text, since many readers of JSON have no integers of 64 bits; null for 0.
Json in_hexadecimal(std::uint64_t number) {
  if (number == 0) {
    return nullptr;
  }
  std::array<char, 16> digits{};  // to_chars writes the same in every locale
  char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), number, 16).ptr;
  return std::string(digits.data(), end);
}

Json facts_of(const Descriptor& what) {
  Json facts = Json::object();
  for (std::size_t i = 0; i < most_facts; ++i) {
    if (what.facts[i] != 0) {
      facts[std::string(what.operation->facts[i].name.view())] = what.facts[i];
    }
  }
  return facts;
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::string to_json(const FlightRecord* record, const Member& member, std::string_view failure) {
  const double tick = seconds_per_tick();
  const Ticks now = ticks_now();
  const double since_1970 =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  Json exchanges = Json::array();
  const std::vector<const FlightEntry*> entries =
      record == nullptr ? std::vector<const FlightEntry*>() : record->latest();
  for (const FlightEntry* entry : entries) {
    const Descriptor what = record->what(*entry);
    const Ticks started = entry->started.load();
    const Ticks finished = entry->finished.load();
    exchanges.push_back(
        {{"sequence", entry->sequence},
         {"operation", what.operation->text.view()},
         {"subject", what.subject},
         {"count", what.count},
         {"dtype", to_string(what.dtype)},
         {"options", what.options},
         {"facts", facts_of(what)},
         {"values", entry->length},
         {"started", since_1970 - tick * static_cast<double>(now - started)},
         {"seconds",
          finished == 0 ? Json(nullptr) : Json(tick * static_cast<double>(finished - started))}});
  }
  const Json json = {{"group", in_hexadecimal(member.group)},
                     {"rank", member.rank},
                     {"size", member.size},
                     {"host", host_name()},
                     {"process", getpid()},
                     {"failure", failure},
                     {"exchanges", std::move(exchanges)}};
  // A subject's name need not be valid UTF-8.
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void keep_flight_record(const std::string& json) noexcept {
  try {
    constexpr int most_taken = 100;
    for (int taken = 0; taken < most_taken; ++taken) {
      const std::filesystem::path file = next_file();
      if (file.empty()) {
        return;
      }
      std::filesystem::create_directories(file.parent_path());
      if (create_atomically(file, {std::as_bytes(std::span(json))})) {
        return;
      }
    }
    report("the flight record was not written: " + std::to_string(most_taken) +
           " names for it were taken");
  } catch (const std::exception& error) {
    report(std::string("the flight record was not written: ") + error.what());
  } catch (...) {
    report("the flight record was not written");
  }
}

}  // namespace comm

void set_flight_record_directory(std::filesystem::path directory) {
  const std::scoped_lock lock(comm::place().mutex);
  comm::place().directory = std::move(directory);
}

}  // namespace syncbn
