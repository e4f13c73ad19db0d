// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <functional>
#include <string_view>
#include <unistd.h>
#include <vector>

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

/// Collective. A layer that has diverged on one rank only, whose state cannot be had, is told to
/// all.
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

/// This rank's statistics under the names its layers know.
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

std::int64_t load(const std::filesystem::path& file, const Trained& trained,
                  const RunIdentity& identity, int rank) {
  StateDict state = load_safetensors(file);
  try {
    check_identity(state, identity);
    const std::int64_t steps = steps_done(state);
    select_own(state, trained, rank);
    load_state(trained, state);
    return steps;
  } catch (const FileError& error) {
    throw FileError(
        fmt::format("cannot resume from {} ({}). Give the options of the run that "
                    "saved it, or start anew without --resume.",
                    file.string(), error.what()));
  }
}

}  // namespace

void require_writable(const std::filesystem::path& file, const Communicator& ranks) {
  agree(ranks, [&] {
    const std::filesystem::path directory = file.has_parent_path() ? file.parent_path() : ".";
    if (ranks.rank() != 0) {
      return;
    }
    if (access(directory.c_str(), W_OK) != 0 || std::filesystem::is_directory(file)) {
      throw FileError(fmt::format(
          "checkpoint {} cannot be written ({}). Name a file in a directory "
          "that exists.",
          file.string(),
          std::filesystem::is_directory(file) ? "it is a directory" : std::strerror(errno)));
    }
  });
}

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
      save_safetensors(state, file);
    }
  });
}

std::int64_t load_checkpoint(const std::filesystem::path& file, const Trained& trained,
                             const RunIdentity& identity, const Communicator& ranks) {
  std::int64_t steps = 0;
  agree(ranks, [&] { steps = load(file, trained, identity, ranks.rank()); });
  const std::vector<double> all = ranks.all_gather(std::vector{static_cast<double>(steps)});
  if (std::adjacent_find(all.begin(), all.end(), std::not_equal_to<>()) != all.end()) {
    throw FileError(
        fmt::format("ranks 0 to {} found {} in steps {}: not the same file. Put it where "
                    "all ranks see it.",
                    ranks.size() - 1, file.string(), fmt::join(all, ", ")));
  }
  return steps;
}

}  // namespace syncbn::trainer
