// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>

namespace syncbn {

/// Returns the processor time per time that this process's control groups grant, such as 1.5 for a
/// container of one and a half processors; the least of theirs and their ancestors'. None without a
/// limit. Linux lets the threads run on more processors and stops them all when the time is used
/// up. `root` is the directory in which proc and sys are. Reads a few small files.
std::optional<double> cpu_quota(const std::filesystem::path& root = "/");

/// Returns how many threads a process on `processors` should have if `processes` share the quota: a
/// process's part of it, rounded up, but no more than `processors` and at least one.
int threads_within(const std::optional<double>& quota, int processors, int processes = 1);

}  // namespace syncbn
