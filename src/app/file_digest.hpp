// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace syncbn::app {

/// Returns the size and the CRC-32 of a file in words, or why it cannot be read. Ranks compare them
/// to see whether they have the same file. It takes a second for some 400 MB.
std::string file_digest(const std::filesystem::path& name);

/// The program that runs, as a file.
inline constexpr const char* own_program = "/proc/self/exe";

}  // namespace syncbn::app
