// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "syncbn/communicator.hpp"

#include "trainer/trained.hpp"

namespace syncbn::trainer {

/// Says what a run was started with, as far as its result depends on it: names and values as text.
/// Only a run of the same identity may continue from a checkpoint.
using RunIdentity = std::map<std::string, std::string>;

/// Collective. Rank 0 writes a safetensors file, atomically. It holds the tensors of trained.hpp,
/// and other ranks' own statistics as "rank1.bn1.running_mean". Every rank throws FileError if rank
/// 0 cannot write it, or if a value is not finite; the old file is then still there.
void save_checkpoint(const std::filesystem::path& file, const Trained& trained,
                     const RunIdentity& identity, std::int64_t steps_done,
                     const Communicator& ranks);

/// Collective. Every rank reads the file. Returns how many steps were done. Every rank throws
/// FileError if any rank cannot use the file, or if ranks have read different ones; what `trained`
/// holds is then undefined, the file as it was.
std::int64_t load_checkpoint(const std::filesystem::path& file, const Trained& trained,
                             const RunIdentity& identity, const Communicator& ranks);

}  // namespace syncbn::trainer
