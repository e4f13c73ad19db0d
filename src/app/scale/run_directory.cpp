// SPDX-License-Identifier: Apache-2.0
#include "app/scale/run_directory.hpp"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>

#include "syncbn/error.hpp"

#include "core/atomic_file.hpp"
#include "core/regular_file.hpp"

#include "trainer/agreement.hpp"

namespace syncbn::app::scale {
namespace {

namespace fs = std::filesystem;

constexpr const char* format = "syncbn scale 1";

std::string read_text(const fs::path& path) {
  RegularFile file(path);
  std::string text(file.size(), '\0');
  file.read(std::as_writable_bytes(std::span(text)));
  return text;
}

/// Reads a JSON object. Throws FileError if it is none.
Json read_json(const fs::path& path) {
  Json json = Json::parse(read_text(path), nullptr, false);
  if (!json.is_object()) {
    throw FileError(
        fmt::format("{} is no JSON object (it was changed, or is not of 'syncbn scale'). Remove "
                    "it, or choose another --output.",
                    path.string()));
  }
  return json;
}

/// Reads the file of a cell. Throws FileError if it is none.
Json read_cell(const fs::path& path) {
  Json cell = read_json(path);
  const auto has = [](const Json& object, const char* name, auto is_right) {
    return object.is_object() && object.contains(name) && is_right(object[name]);
  };
  const auto is_number = [](const Json& value) { return value.is_number(); };
  const auto is_boolean = [](const Json& value) { return value.is_boolean(); };
  const auto is_text = [](const Json& value) { return value.is_string(); };
  const auto are_entries = [&](const Json& values) {
    return values.is_array() && std::ranges::all_of(values, [&](const Json& entry) {
             return has(entry, "kind", is_text) && has(entry, "enough", is_boolean);
           });
  };
  if (!has(cell, "order", is_number) || !has(cell, "seconds", is_number) ||
      !has(cell, "entries", are_entries)) {
    throw FileError(
        fmt::format("{} is no cell of a run (it was changed, or is not of 'syncbn scale'). Remove "
                    "it, or choose another --output.",
                    path.string()));
  }
  return cell;
}

void write_json(const fs::path& path, const Json& json, int indent = -1) {
  const std::string text = json.dump(indent) + "\n";
  write_atomically(path, {std::as_bytes(std::span(text))});
}

std::string now_as_text() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

/// Throws FileError if the run that is kept is another than this one, and says in what.
void require_same(const Json& kept, const Json& identity, const fs::path& directory) {
  for (const auto& [name, value] : identity.items()) {
    const Json theirs = kept.contains(name) ? kept[name] : Json(nullptr);
    if (theirs != value) {
      throw FileError(
          fmt::format("{} has what another run measured ({}: {} there, {} here). Choose another "
                      "--output, or remove that directory.",
                      directory.string(), name, theirs.dump(), value.dump()));
    }
  }
}

/// Collective. Returns the text that rank `at` gives.
std::string text_of(const Communicator& world, int at, const std::string& text) {
  const bool gives = world.rank() == at;
  std::vector<double> length{gives ? static_cast<double>(text.size()) : 0.0};
  world.all_reduce(length);
  std::vector<double> characters(static_cast<std::size_t>(length[0]));
  if (gives) {
    characters.assign(text.begin(), text.end());
  }
  world.all_reduce(characters);
  return {characters.begin(), characters.end()};
}

}  // namespace

RunDirectory::RunDirectory(const Communicator& world, fs::path directory, const Json& identity)
    : world_(world), directory_(std::move(directory)) {
  trainer::agree(world_, [&] {
    if (world_.rank() == 0) {
      read(identity);
    }
  });
  // The other ranks need to know which cells there are.
  Json names = Json::array();
  for (const auto& [name, cell] : cells_) {
    names.push_back(name);
  }
  for (const Json& name : Json::parse(text_of(world_, 0, names.dump()))) {
    cells_.try_emplace(name);
  }
}

/// Takes the directory for this run alone, until the process ends.
void RunDirectory::lock() {
  const fs::path file = directory_ / "lock";
  lock_ = FileDescriptor(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (lock_.get() < 0) {
    throw FileError(fmt::format("{} cannot be made ({}). Choose another --output.", file.string(),
                                std::generic_category().message(errno)));
  }
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    throw FileError(fmt::format(
        "{} is being written to by another run. Wait for it, or choose another --output.",
        directory_.string()));
  }
}

void RunDirectory::read(const Json& identity) {
  const fs::path cells = directory_ / "cells";
  std::error_code error;
  fs::create_directories(cells, error);
  if (error) {
    throw FileError(fmt::format("{} cannot be made ({}). Choose another --output.", cells.string(),
                                error.message()));
  }
  lock();
  if (fs::exists(directory_ / "run.json")) {
    run_ = read_json(directory_ / "run.json");
    require_same(run_.value("identity", Json::object()), identity, directory_);
    for (const fs::directory_entry& entry : fs::directory_iterator(cells)) {
      if (entry.path().extension() == ".json") {
        Json cell = read_cell(entry.path());
        cell.erase("samples");
        cells_[entry.path().stem().string()] = std::move(cell);
      }
    }
    run_["sittings"] = run_.value("sittings", 0) + 1;
  } else if (!fs::is_empty(cells)) {
    throw FileError(
        fmt::format("{} has cells of a run that is not known (run.json is missing). Choose another "
                    "--output, or remove that directory.",
                    directory_.string()));
  } else {
    run_ = {{"format", format},
            {"identity", identity},
            {"started", now_as_text()},
            {"seconds", 0.0},
            {"sittings", 1}};
  }
  write_run();
}

void RunDirectory::write_run() {
  write_json(directory_ / "run.json", run_, 1);
}

void RunDirectory::keep(const Cell& cell, const Found& found, double seconds) {
  const Json mine = {{"order", cells_.size()},
                     {"seconds", rounded(seconds)},
                     {"entries", found.entries},
                     {"samples", found.samples}};
  const std::string text = found.at == 0 ? mine.dump() : text_of(world_, found.at, mine.dump());
  trainer::agree(world_, [&] {
    if (world_.rank() == 0) {
      Json whole = Json::parse(text);
      write_json(cell_file(cell.name), whole);
      whole.erase("samples");
      cells_[cell.name] = std::move(whole);
      run_["seconds"] = run_["seconds"].get<double>() + seconds;
      write_run();
    }
  });
  cells_.try_emplace(cell.name);
}

Json RunDirectory::write_report(const Json& head, const std::vector<Cell>& cells) {
  Json report;
  trainer::agree(world_, [&] {
    if (world_.rank() != 0) {
      return;
    }
    Json entries = Json::array();
    for (const Cell& cell : cells) {
      const Json& kept = cells_.at(cell.name);
      for (const Json& found : kept["entries"]) {
        Json entry = {
            {"kind", found["kind"]}, {"order", kept["order"]}, {"seconds", kept["seconds"]}};
        entry.update(found);
        entries.push_back(std::move(entry));
      }
    }
    report = {{"format", format},
              {"started", run_["started"]},
              {"seconds", rounded(run_["seconds"])},
              {"sittings", run_["sittings"]}};
    report.update(head);
    report["cells"] = std::move(entries);
    write_json(directory_ / "scale.json", report);
  });
  return report;
}

}  // namespace syncbn::app::scale
