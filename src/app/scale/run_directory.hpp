// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "syncbn/communicator.hpp"

#include "core/file_descriptor.hpp"

#include "app/scale/cells.hpp"

namespace syncbn::app::scale {

/// A RunDirectory keeps what a run has measured: a file for each cell, so that a run that was
/// killed goes on with the cell that it lost. Rank 0 reads and writes; all calls are collective
/// over the world, and throw on every rank.
class RunDirectory {
 public:
  /// Makes the directory, or reads what a run with the same `identity` has left there. Throws
  /// FileError if another run has left something there, or if the directory cannot be made,
  /// read or written to.
  RunDirectory(const Communicator& world, std::filesystem::path directory, const Json& identity);

  /// Tells whether the cell is measured already; on all ranks the same.
  bool has(const std::string& cell) const { return cells_.contains(cell); }

  /// Keeps what a cell has found on rank `found.at`, in `seconds`.
  void keep(const Cell& cell, const Found& found, double seconds);

  /// Writes scale.json: `head` with the entries of all these cells, in the order given, and how
  /// long the run has measured. Returns it, on rank 0.
  Json write_report(const Json& head, const std::vector<Cell>& cells);

 private:
  std::filesystem::path cell_file(const std::string& name) const {
    return directory_ / "cells" / (name + ".json");
  }
  void read(const Json& identity);
  void lock();
  void write_run();

  Communicator world_;
  std::filesystem::path directory_;
  FileDescriptor lock_;  ///< of the file by which only one run has the directory; on rank 0
  Json run_;             ///< what run.json has; on rank 0
  std::map<std::string, Json> cells_;  ///< entries and duration by name; on other ranks only names
};

}  // namespace syncbn::app::scale
