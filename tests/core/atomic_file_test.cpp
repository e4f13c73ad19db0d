// SPDX-License-Identifier: Apache-2.0
#include "core/atomic_file.hpp"

#include <fstream>
#include <signal.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "syncbn/error.hpp"

#include "support/scratch_directory.hpp"

namespace syncbn {
namespace {

using test::ScratchDirectory;

void write(const std::filesystem::path& file, const std::string& text) {
  write_atomically(file, {std::as_bytes(std::span(text))});
}

std::string read(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(AtomicFile, ReplacesAndLeavesNothingBeside) {
  const ScratchDirectory scratch;
  write(scratch / "file", "first");
  write(scratch / "file", "second");
  EXPECT_EQ(read(scratch / "file"), "second");
  const std::filesystem::directory_iterator files(scratch.path());
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);
}

TEST(AtomicFile, AFailureLeavesTheOldFile) {
  const ScratchDirectory scratch;
  std::filesystem::create_directory(scratch / "taken");
  write(scratch / "taken" / "inside", "kept");
  EXPECT_THROW(write(scratch / "taken", "x"), FileError) << "a directory is in the way";
  EXPECT_EQ(read(scratch / "taken" / "inside"), "kept");
  const std::filesystem::directory_iterator files(scratch.path());
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);
}

TEST(AtomicFile, LinksAndPermissionsStay) {
  const ScratchDirectory scratch;
  const auto secret = std::filesystem::perms::owner_read | std::filesystem::perms::owner_write;
  write(scratch / "file", "first");
  std::filesystem::permissions(scratch / "file", secret);
  std::filesystem::create_symlink("file", scratch / "link");
  write(scratch / "link", "second");
  EXPECT_TRUE(std::filesystem::is_symlink(scratch / "link"));
  EXPECT_EQ(read(scratch / "file"), "second");
  EXPECT_EQ(std::filesystem::status(scratch / "file").permissions(), secret);
}

TEST(AtomicFile, OtherThanRegularFilesAreRefused) {
  const ScratchDirectory scratch;
  ASSERT_EQ(::mkfifo((scratch / "pipe").c_str(), 0600), 0);
  EXPECT_THROW(write(scratch / "pipe", "x"), FileError);
  EXPECT_TRUE(std::filesystem::is_fifo(scratch / "pipe"));
}

TEST(AtomicFile, SeveralWritersLeaveTheFileOfOneOfThem) {
  const ScratchDirectory scratch;
  const std::string a(1 << 18, 'a'), b(1 << 18, 'b');
  write(scratch / "file", a);
  std::vector<std::thread> writers;
  for (const std::string* text : {&a, &b, &a}) {
    writers.emplace_back([&, text] {
      for (int i = 0; i < 20; ++i) {
        EXPECT_NO_THROW(write(scratch / "file", *text));
      }
    });
  }
  for (int i = 0; i < 100; ++i) {
    const std::string found = read(scratch / "file");
    EXPECT_TRUE(found == a || found == b);
  }
  for (std::thread& writer : writers) {
    writer.join();
  }
}

TEST(AtomicFile, AKilledWriterLeavesAWholeFile) {
  const ScratchDirectory scratch;
  const std::string a(1 << 20, 'a'), b(1 << 20, 'b');
  write(scratch / "file", a);
  for (int trial = 0; trial < 20; ++trial) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (;;) {
        write(scratch / "file", b);
        write(scratch / "file", a);
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(3 + 2 * trial));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const std::string left = read(scratch / "file");
    EXPECT_TRUE(left == a || left == b) << "after kill " << trial;
  }
}

}  // namespace
}  // namespace syncbn
