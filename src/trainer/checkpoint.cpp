// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <string_view>
#include <vector>
#include <zlib.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "syncbn/error.hpp"
#include "syncbn/state.hpp"

#include "trainer/agreement.hpp"

namespace syncbn::trainer {
namespace {

constexpr const char* format_key = "format";
constexpr const char* format_value = "syncbn train 1";
constexpr const char* step_key = "step";

std::string own_name(int rank, const std::string& name) {
  return rank == 0 ? name : fmt::format("rank{}.{}", rank, name);
}

/// Collective. Adds what the layers keep besides the parameters, of every rank where each has its
/// own. If it cannot be had on one rank, where a layer has diverged, all ranks throw FileError.
void add_layer_state(StateDict& state, const Trained& trained, const Communicator& ranks) {
  StateDict mine;
  agree(ranks, [&] { mine = layer_state(trained); });
  const bool shared = trained.running_statistics == RunningStatistics::shared;
  if (shared || mine.tensors.empty()) {
    state.tensors.insert(mine.tensors.begin(), mine.tensors.end());
    return;
  }
  const std::vector<double> own = flatten(mine);
  const std::vector<double> all = ranks.all_gather(own);
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const StateDict theirs =
        unflatten(mine, all.data() + static_cast<std::size_t>(rank) * own.size());
    for (const auto& [name, tensor] : theirs.tensors) {
      state.tensors[own_name(rank, name)] = tensor;
    }
  }
}

/// Puts this rank's statistics under the names that its layers know.
void select_own(StateDict& state, const Trained& trained, int rank) {
  if (trained.running_statistics == RunningStatistics::shared) {
    return;
  }
  for (const auto& [name, tensor] : layer_state(trained).tensors) {
    const auto own = state.tensors.find(own_name(rank, name));
    if (own == state.tensors.end()) {
      throw FileError(fmt::format("{} is missing", own_name(rank, name)));
    }
    state.tensors[name] = own->second;
  }
}

std::string_view entry(const StateDict& state, const std::string& key) {
  const auto found = state.metadata.find(key);
  return found == state.metadata.end() ? std::string_view("not recorded") : found->second;
}

void check_identity(const StateDict& state, const RunIdentity& identity) {
  if (entry(state, format_key) != format_value) {
    throw FileError("it was not written by this version of syncbn train");
  }
  std::vector<std::string> differences;
  for (const auto& [key, value] : identity) {
    if (entry(state, key) != value) {
      differences.push_back(
          fmt::format("{} is {} there and {} here", key, entry(state, key), value));
    }
  }
  if (!differences.empty()) {
    throw FileError(fmt::format("it belongs to another run: {}", fmt::join(differences, ", ")));
  }
}

std::int64_t steps_done(const StateDict& state) {
  const std::string_view text = entry(state, step_key);
  std::int64_t steps = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), steps);
  if (error != std::errc() || end != text.data() + text.size() || steps < 0) {
    throw FileError(fmt::format("its step is '{}'", text));
  }
  return steps;
}

/// Throws FileError if a value is not finite: a run that has diverged must not replace its last
/// good checkpoint.
void require_finite(const StateDict& state, const std::filesystem::path& file,
                    std::int64_t steps_done) {
  for (const auto& [name, tensor] : state.tensors) {
    if (tensor.dtype == StateDType::i64) {
      continue;
    }
    const std::vector<double> values = tensor.as_doubles(name);
    if (!std::ranges::all_of(values, [](double value) { return std::isfinite(value); })) {
      throw FileError(fmt::format(
          "{} is not replaced ({} is not finite after step {}: training has diverged). What is "
          "there is from before. Try a lower --learning-rate.",
          file.string(), name, steps_done));
    }
  }
}

/// Returns the CRC-32 of names, types, shapes, values and metadata.
std::uint32_t checksum(const StateDict& state) {
  uLong crc = 0;
  const auto add = [&crc](const void* data, std::size_t bytes) {
    crc = crc32_z(crc, static_cast<const Bytef*>(data), bytes);
  };
  for (const auto& [key, value] : state.metadata) {
    add(key.c_str(), key.size() + 1);  // with the zero at its end, to keep them apart
    add(value.c_str(), value.size() + 1);
  }
  for (const auto& [name, tensor] : state.tensors) {
    add(name.c_str(), name.size() + 1);
    add(&tensor.dtype, sizeof tensor.dtype);
    add(tensor.shape.data(), tensor.shape.size() * sizeof(std::int64_t));
    add(tensor.bytes.data(), tensor.bytes.size());
  }
  return static_cast<std::uint32_t>(crc);
}

StateDict read(const std::filesystem::path& file) {
  try {
    return load_safetensors(file);
  } catch (const FileError& error) {
    throw FileError(
        fmt::format("cannot resume: {}. Give a file that --save has written, or start "
                    "anew without --resume.",
                    error.what()));
  }
}

/// Tells ranks apart that have read different checkpoints.
struct Loaded {
  std::int64_t steps_done = 0;
  std::uint32_t checksum = 0;
};

Loaded load(const std::filesystem::path& file, const Trained& trained, const RunIdentity& identity,
            int rank) {
  StateDict state = read(file);
  try {
    check_identity(state, identity);
    const Loaded loaded{steps_done(state), checksum(state)};
    select_own(state, trained, rank);
    load_state(trained, state);
    return loaded;
  } catch (const FileError& error) {
    throw FileError(fmt::format(
        "cannot resume from {} ({}). Give the file and the options of one run, or start "
        "anew without --resume.",
        file.string(), error.what()));
  }
}

}  // namespace

void save_checkpoint(const std::filesystem::path& file, const Trained& trained,
                     const RunIdentity& identity, std::int64_t steps_done,
                     const Communicator& ranks) {
  StateDict state = descent_state(trained);
  state.metadata = identity;
  state.metadata[format_key] = format_value;
  state.metadata[step_key] = std::to_string(steps_done);
  add_layer_state(state, trained, ranks);
  agree(ranks, [&] {
    if (ranks.rank() == 0) {
      require_finite(state, file, steps_done);
      save_safetensors(state, file);
    }
  });
}

std::int64_t load_checkpoint(const std::filesystem::path& file, const Trained& trained,
                             const RunIdentity& identity, const Communicator& ranks) {
  Loaded loaded;
  agree(ranks, [&] { loaded = load(file, trained, identity, ranks.rank()); });
  const std::string unlike = differences(
      ranks, fmt::format("step {}, checksum {:08x}", loaded.steps_done, loaded.checksum));
  if (!unlike.empty()) {
    throw FileError(
        fmt::format("the ranks found different checkpoints in {} ({}). Put the same file where all "
                    "ranks see it.",
                    file.string(), unlike));
  }
  return loaded.steps_done;
}

}  // namespace syncbn::trainer
