// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "syncbn/communicator.hpp"

#include "trainer/model.hpp"
#include "trainer/sgd.hpp"

namespace syncbn::trainer {

/// What a run was started with, as far as its result depends on it: names and values as text. Only
/// a run of the same identity may continue from a checkpoint.
using RunIdentity = std::map<std::string, std::string>;

/// Whether batch norm's running statistics are the same on all ranks, or each rank's are kept.
enum class RunningStatistics : std::uint8_t { shared, per_rank };

/// The parts of a run that change as it goes on. A safetensors file holds them under PyTorch's
/// names
/// ("conv1.weight", "bn1.running_mean"), the optimizer's as "velocity.conv1.weight", and other
/// ranks' own statistics as "rank1.bn1.running_mean".
struct Trained {
  Model& model;
  Sgd& sgd;
  RunningStatistics running_statistics;
};

/// Collective. Every rank throws FileError if rank 0 cannot write into the file's directory: better
/// known before the training than after it.
void require_writable(const std::filesystem::path& file, const Communicator& ranks);

/// Collective. Rank 0 writes the file, atomically. Every rank throws FileError if it cannot; the
/// old file is then still there.
void save_checkpoint(const std::filesystem::path& file, const Trained& trained,
                     const RunIdentity& identity, std::int64_t steps_done,
                     const Communicator& ranks);

/// Collective. Every rank reads the file. Returns how many steps were done. Every rank throws
/// FileError if any cannot use it; what `trained` holds is then undefined, the file as it was.
std::int64_t load_checkpoint(const std::filesystem::path& file, const Trained& trained,
                             const RunIdentity& identity, const Communicator& ranks);

}  // namespace syncbn::trainer
