// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "syncbn/communicator.hpp"

namespace syncbn::app {

/// Collective. Throws FileError on every rank if rank 0 cannot create `file`, so that a long run
/// does not end without its report. An empty path is none, here and below. Leaves no file.
void require_writable(const Communicator& world, const std::filesystem::path& file);

/// Collective. Rank 0 writes `text` to `file`, atomically; the others' text is not looked at.
/// Throws FileError on every rank if it cannot.
void write_report(const Communicator& world, const std::filesystem::path& file,
                  const std::string& text);

}  // namespace syncbn::app
