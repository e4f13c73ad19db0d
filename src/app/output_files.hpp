// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"

namespace syncbn::app {

/// A NamedFile is a file that an option names. An empty path means none, here and below.
struct NamedFile {
  std::string option;  ///< without dashes
  std::filesystem::path file;
};

/// Collective. Throws UsageError on every rank if rank 0 finds that two of these are one file, also
/// by another spelling, a symbolic link or a hard link.
void require_different_files(const Communicator& world, const std::vector<NamedFile>& files);

/// Collective. Throws FileError on every rank if rank 0 cannot create or replace `file`, so that a
/// long run does not end without it. Leaves no file.
void require_writable(const Communicator& world, const std::filesystem::path& file);

/// Collective. Rank 0 writes `text` to `file`, atomically; the others' text is not looked at.
/// Throws FileError on every rank if it cannot.
void write_report(const Communicator& world, const std::filesystem::path& file,
                  const std::string& text);

}  // namespace syncbn::app
