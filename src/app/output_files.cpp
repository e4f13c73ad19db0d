// SPDX-License-Identifier: Apache-2.0
#include "app/output_files.hpp"

#include <span>
#include <system_error>

#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "core/atomic_file.hpp"

#include "app/args.hpp"
#include "trainer/agreement.hpp"

namespace syncbn::app {
namespace {

namespace fs = std::filesystem;

/// Returns the file at the end of symbolic links, which need not exist yet; in a loop of links, any
/// of them.
fs::path without_links(fs::path file) {
  constexpr int most_links = 40;  // Linux follows as many
  std::error_code error;
  for (int i = 0; i < most_links && fs::is_symlink(file, error); ++i) {
    const fs::path target = fs::read_symlink(file, error);
    if (error) {
      break;
    }
    file = file.parent_path() / target;  // a target that begins with / replaces the whole path
  }
  const fs::path whole = fs::weakly_canonical(fs::absolute(file, error), error);
  return error ? file : whole;
}

bool are_one_file(const fs::path& a, const fs::path& b) {
  std::error_code error;
  return without_links(a) == without_links(b) || fs::equivalent(a, b, error);
}

void refuse_one_file(const std::vector<NamedFile>& files) {
  for (auto a = files.begin(); a != files.end(); ++a) {
    for (auto b = a + 1; b != files.end(); ++b) {
      if (!a->file.empty() && !b->file.empty() && are_one_file(a->file, b->file)) {
        throw UsageError(fmt::format(
            "--{} {} and --{} {} are the same file (one would overwrite the other). Name two.",
            a->option, a->file.string(), b->option, b->file.string()));
      }
    }
  }
}

}  // namespace

void require_different_files(const Communicator& world, const std::vector<NamedFile>& files) {
  try {
    trainer::agree(world, [&] {
      if (world.rank() == 0) {
        refuse_one_file(files);
      }
    });
  } catch (const FileError& error) {
    throw UsageError(error.what());
  }
}

void require_writable(const Communicator& world, const fs::path& file) {
  trainer::agree(world, [&] {
    if (world.rank() == 0 && !file.empty()) {
      require_replaceable(file);
    }
  });
}

void write_report(const Communicator& world, const fs::path& file, const std::string& text) {
  if (file.empty()) {
    return;
  }
  trainer::agree(world, [&] {
    if (world.rank() == 0) {
      write_atomically(file, {std::as_bytes(std::span(text))});
    }
  });
}

}  // namespace syncbn::app
