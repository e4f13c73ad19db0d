// SPDX-License-Identifier: Apache-2.0
#include "app/run_directory.hpp"

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

#include "app/scale/distribution.hpp"
#include "trainer/agreement.hpp"

namespace syncbn::app {
namespace {

namespace fs = std::filesystem;

std::string read_text(const fs::path& path) {
  RegularFile file(path);
  std::string text(file.size(), '\0');
  file.read(std::as_writable_bytes(std::span(text)));
  return text;
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
  if (world.size() == 1) {
    return text;
  }
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

RunDirectory::RunDirectory(const Communicator& world, fs::path directory, PartFiles files,
                           const Json& identity)
    : world_(world), directory_(std::move(directory)), files_(std::move(files)) {
  trainer::agree(world_, [&] {
    if (world_.rank() == 0) {
      read(identity);
    }
  });
  // The other ranks need to know which parts there are.
  Json names = Json::array();
  for (const auto& [name, part] : parts_) {
    names.push_back(name);
  }
  for (const Json& name : Json::parse(text_of(world_, 0, names.dump()))) {
    parts_.try_emplace(name);
  }
}

/// Reads a JSON object. Throws FileError if it is none.
Json RunDirectory::read_json(const fs::path& path) const {
  Json json = Json::parse(read_text(path), nullptr, false);
  if (!json.is_object()) {
    throw FileError(fmt::format(
        "{} is no JSON object (it was changed, or is not of '{}'). Remove it, or choose "
        "another --output.",
        path.string(), files_.command));
  }
  return json;
}

/// Reads the file of a part. Throws FileError if it is none.
Json RunDirectory::read_part(const fs::path& path) const {
  Json part = read_json(path);
  if (!part.contains("order") || !part["order"].is_number() || !files_.is_part(part)) {
    throw FileError(fmt::format(
        "{} is no {} of a run (it was changed, or is not of '{}'). Remove it, or choose "
        "another --output.",
        path.string(), files_.part, files_.command));
  }
  part.erase("samples");
  return part;
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
  const fs::path folder = directory_ / parts_name();
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw FileError(fmt::format("{} cannot be made ({}). Choose another --output.", folder.string(),
                                error.message()));
  }
  lock();
  if (fs::exists(directory_ / "run.json")) {
    run_ = read_json(directory_ / "run.json");
    require_same(run_.value("identity", Json::object()), identity, directory_);
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".json") {
        parts_[entry.path().stem().string()] = read_part(entry.path());
      }
    }
    run_["sittings"] = run_.value("sittings", 0) + 1;
  } else if (!fs::is_empty(folder)) {
    throw FileError(
        fmt::format("{} has {} of a run that is not known (run.json is missing). Choose another "
                    "--output, or remove that directory.",
                    directory_.string(), parts_name()));
  } else {
    run_ = {{"format", files_.command + " 1"},
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

void RunDirectory::keep(const std::string& part, const Json& found, int at, double seconds) {
  const std::string text = text_of(world_, at, found.dump());
  trainer::agree(world_, [&] {
    if (world_.rank() == 0) {
      Json whole = {{"order", parts_.size()}};
      whole.update(Json::parse(text));
      write_json(part_file(part), whole);
      whole.erase("samples");
      parts_[part] = std::move(whole);
      run_["seconds"] = run_["seconds"].get<double>() + seconds;
      write_run();
    }
  });
  parts_.try_emplace(part);
}

Json RunDirectory::write_report(const std::string& file,
                                const std::function<Json(const Parts&)>& rest) {
  Json report;
  trainer::agree(world_, [&] {
    if (world_.rank() == 0) {
      report = {{"format", files_.command + " 1"},
                {"started", run_["started"]},
                {"seconds", scale::rounded(run_["seconds"])},
                {"sittings", run_["sittings"]}};
      report.update(rest(parts_));
      write_json(directory_ / file, report);
    }
  });
  return report;
}

}  // namespace syncbn::app
