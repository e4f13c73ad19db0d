// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "syncbn/communicator.hpp"

#include "core/file_descriptor.hpp"

#include "app/json.hpp"

namespace syncbn::app {

/// PartFiles say what files a command leaves of the parts that its work is cut into.
struct PartFiles {
  std::string command;  ///< "syncbn scale"
  std::string part;     ///< what the user calls one: "cell"; the files' folder is "cells"
  std::function<bool(const Json&)> is_part;  ///< tells whether a file has what the command needs
};

/// A RunDirectory keeps what a command has found: a file for each part of its work, so that a
/// command that was killed goes on with the part that it lost. Rank 0 reads and writes; all calls
/// are collective over the world, and throw on every rank.
class RunDirectory {
 public:
  using Parts = std::map<std::string, Json>;

  /// Makes the directory, or reads what a run with the same `identity` has left there. Throws
  /// FileError if another run has left something there, or if the directory cannot be made,
  /// read or written to.
  RunDirectory(const Communicator& world, std::filesystem::path directory, PartFiles files,
               const Json& identity);

  /// Tells whether the part is done already; on all ranks the same.
  bool has(const std::string& part) const { return parts_.contains(part); }

  /// Keeps what rank `at` has found of a part, an object; the others' is not looked at. The run has
  /// taken `seconds` more by then. The file has one more field, "order": how many parts were done
  /// before.
  void keep(const std::string& part, const Json& found, int at, double seconds);

  /// Writes a file with what `rest` makes of all parts that there are, behind the format, the
  /// start, and how long the run has taken. Returns it, on rank 0. Of a part, "samples" is in its
  /// own file only.
  Json write_report(const std::string& file, const std::function<Json(const Parts&)>& rest);

 private:
  std::string parts_name() const { return files_.part + "s"; }
  std::filesystem::path part_file(const std::string& name) const {
    return directory_ / parts_name() / (name + ".json");
  }
  void read(const Json& identity);
  Json read_json(const std::filesystem::path& path) const;
  Json read_part(const std::filesystem::path& path) const;
  void lock();
  void write_run();

  Communicator world_;
  std::filesystem::path directory_;
  PartFiles files_;
  FileDescriptor lock_;  ///< of the file by which only one run has the directory; on rank 0
  Json run_;             ///< what run.json has; on rank 0
  Parts parts_;          ///< by name; on other ranks only names
};

}  // namespace syncbn::app
