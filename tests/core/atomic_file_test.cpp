// SPDX-License-Identifier: Apache-2.0
#include "core/atomic_file.hpp"

#include <chrono>
#include <climits>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <sched.h>
#include <signal.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "support/scratch_directory.hpp"

namespace {

/// What is to happen when a file is about to be flushed; its descriptor is handed over.
std::function<void(int)> before_fsync;
/// What is to happen when the permissions of a file are about to be changed.
std::function<void(int)> before_fchmod;

}  // namespace

// The library calls these instead of the C library's.
extern "C" int fsync(int fd) {
  if (before_fsync) {
    before_fsync(fd);
  }
  return static_cast<int>(::syscall(SYS_fsync, fd));
}
extern "C" int fchmod(int fd, mode_t mode) noexcept {
  if (before_fchmod) {
    before_fchmod(fd);
  }
  return static_cast<int>(::syscall(SYS_fchmod, fd, mode));
}

namespace syncbn {
namespace {

using test::ScratchDirectory;
using testing::HasSubstr;

constexpr uid_t nobody = 65534;

void write(const std::filesystem::path& file, const std::string& text) {
  write_atomically(file, {std::as_bytes(std::span(text))});
}

std::string read(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::ptrdiff_t files_in(const std::filesystem::path& directory) {
  return std::distance(std::filesystem::directory_iterator(directory), {});
}

std::string refusal_of(const std::filesystem::path& file) {
  const std::string why = test::failure_of<FileError>([&] { require_replaceable(file); });
  EXPECT_THAT(why, testing::AnyOf("", HasSubstr(file.filename().string())));
  return why;
}

/// Whether the body ends without a failed expectation in a process of its own, which the body may
/// end itself with a code. It may give up what a process cannot get back.
testing::AssertionResult in_child(const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      body();
      ::_exit(testing::Test::HasFailure() ? 1 : 0);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(2);
    }
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "status " << status;
}

TEST(AtomicFile, ReplacesAndLeavesNothingBeside) {
  const ScratchDirectory scratch;
  write(scratch / "file", "first");
  write(scratch / "file", "second");
  EXPECT_EQ(read(scratch / "file"), "second");
  EXPECT_EQ(files_in(scratch.path()), 1);
}

TEST(AtomicFile, AFailureLeavesTheOldFile) {
  const ScratchDirectory scratch;
  std::filesystem::create_directory(scratch / "taken");
  write(scratch / "taken" / "inside", "kept");
  EXPECT_THROW(write(scratch / "taken", "x"), FileError) << "a directory is in the way";
  EXPECT_EQ(read(scratch / "taken" / "inside"), "kept");
  EXPECT_EQ(files_in(scratch.path()), 1);
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

TEST(AtomicFile, TheTemporaryFileOfAPrivateFileIsPrivateFromTheStart) {
  const ScratchDirectory scratch;
  write(scratch / "file", "first");
  ASSERT_EQ(::chmod((scratch / "file").c_str(), 0600), 0);
  int looked = 0;
  const auto look = [&](int fd) {
    struct stat status;
    if (::fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
      ++looked;
      EXPECT_EQ(status.st_mode & 0077, 0U);
    }
  };
  before_fchmod = before_fsync = look;
  write(scratch / "file", "second");
  before_fchmod = before_fsync = nullptr;
  EXPECT_GE(looked, 1);
}

TEST(AtomicFile, AKilledWritersTemporaryFileIsRemovedByALaterWrite) {
  const ScratchDirectory scratch;
  write(scratch / "file", "old");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    before_fsync = [](int) { ::raise(SIGKILL); };
    write(scratch / "file", "never seen");
  }
  ::waitpid(child, nullptr, 0);
  ASSERT_EQ(files_in(scratch.path()), 2) << "it was killed while it wrote";
  write(scratch / "file", "soon after");
  EXPECT_EQ(files_in(scratch.path()), 2) << "its writer may live on another host";
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) {
    std::filesystem::last_write_time(
        entry.path(), std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  }
  std::ofstream(scratch / "file.5.tmp") << "somebody's own";
  write(scratch / "file", "new");
  EXPECT_EQ(files_in(scratch.path()), 2);
  EXPECT_TRUE(std::filesystem::exists(scratch / "file.5.tmp"));
  EXPECT_EQ(read(scratch / "file"), "new");
}

TEST(AtomicFile, ALivingWritersTemporaryFileStays) {
  const ScratchDirectory scratch;
  before_fsync = [&](int) {
    before_fsync = nullptr;
    write(scratch / "file", "meanwhile");
    EXPECT_EQ(read(scratch / "file"), "meanwhile");
  };
  write(scratch / "file", "in the end");
  EXPECT_EQ(read(scratch / "file"), "in the end");
  EXPECT_EQ(files_in(scratch.path()), 1);
}

TEST(AtomicFile, ALinkToNothingYetLeadsToTheNewFile) {
  const ScratchDirectory scratch;
  std::filesystem::create_directory(scratch / "far");
  std::filesystem::create_symlink("far/away", scratch / "first");
  std::filesystem::create_symlink("first", scratch / "second");
  write(scratch / "second", "x");
  EXPECT_TRUE(std::filesystem::is_symlink(scratch / "second"));
  EXPECT_TRUE(std::filesystem::is_symlink(scratch / "first"));
  EXPECT_EQ(read(scratch / "far/away"), "x");
  std::filesystem::create_symlink("round", scratch / "round");
  EXPECT_THAT(refusal_of(scratch / "round"), HasSubstr("without end"));
}

TEST(AtomicFile, TheLongestNamesWork) {
  const ScratchDirectory scratch;
  for (const std::string& name : {std::string(NAME_MAX, 'x'), "x" + std::string(NAME_MAX - 1, 'y'),
                                  "\u00e9" + std::string(NAME_MAX - 2, 'z')}) {
    EXPECT_EQ(refusal_of(scratch / name), "");
    write(scratch / name, "x");
    EXPECT_EQ(read(scratch / name), "x");
  }
  EXPECT_THAT(refusal_of(scratch / std::string(NAME_MAX + 1, 'x')), HasSubstr("too long"));
}

TEST(AtomicFile, WhatCannotBeReplacedIsKnownBeforehand) {
  const ScratchDirectory scratch;
  EXPECT_EQ(refusal_of(scratch / "new"), "");
  EXPECT_EQ(files_in(scratch.path()), 0) << "leaves nothing";
  EXPECT_THAT(refusal_of("/dev/null"), HasSubstr("not a regular file"));
  EXPECT_THAT(refusal_of("/dev/full"), HasSubstr("not a regular file"));
  ASSERT_EQ(::mkfifo((scratch / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(refusal_of(scratch / "pipe"), HasSubstr("not a regular file"));
  std::filesystem::create_directory(scratch / "inner");
  EXPECT_THAT(refusal_of(scratch / "inner"), HasSubstr("is a directory"));
  EXPECT_THAT(refusal_of(scratch.path() / ""), HasSubstr("names no file"));
  EXPECT_THAT(refusal_of(""), HasSubstr("names no file"));
  EXPECT_THAT(refusal_of(scratch / "missing" / "x"), HasSubstr("No such file or directory"));
  EXPECT_THAT(refusal_of(scratch / "pipe" / "x"), HasSubstr("Not a directory"));
}

TEST(AtomicFile, PlacesWithoutPermissionAreKnownBeforehand) {
  const ScratchDirectory scratch;
  std::filesystem::create_directory(scratch / "closed");
  ASSERT_EQ(::chmod((scratch / "closed").c_str(), 0555), 0);
  ASSERT_EQ(::chmod(scratch.path().c_str(), 0755), 0);
  EXPECT_TRUE(in_child([&] {
    if (::geteuid() == 0 && ::setuid(nobody) != 0) {
      return;
    }
    EXPECT_THAT(refusal_of(scratch / "closed" / "x"), HasSubstr("Permission denied"));
  }));
}

TEST(AtomicFile, AnothersFileInAStickyDirectoryIsRefused) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "SKIPPED: only root can be two users";
  }
  const ScratchDirectory scratch;
  ASSERT_EQ(::chmod(scratch.path().c_str(), 01777), 0);
  write(scratch / "roots", "x");
  EXPECT_TRUE(in_child([&] {
    ASSERT_EQ(::setuid(nobody), 0);
    EXPECT_THAT(refusal_of(scratch / "roots"), HasSubstr("another user's"));
    EXPECT_EQ(refusal_of(scratch / "own"), "");
    write(scratch / "own", "x");
    EXPECT_EQ(refusal_of(scratch / "own"), "");
    std::filesystem::create_symlink("victim", scratch / "planted");
  }));
  ASSERT_EQ(::chown(scratch.path().c_str(), nobody - 1, nobody - 1), 0);
  EXPECT_THAT(refusal_of(scratch / "planted"), HasSubstr("another user's link"));
  EXPECT_EQ(refusal_of(scratch / "own"), "") << "root may replace it";
}

TEST(AtomicFile, OwnerAndGroupStay) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "SKIPPED: only root may give files away";
  }
  const ScratchDirectory scratch;
  write(scratch / "file", "first");
  ASSERT_EQ(::chown((scratch / "file").c_str(), nobody, nobody - 1), 0);
  ASSERT_EQ(::chmod((scratch / "file").c_str(), 0640), 0);
  write(scratch / "file", "second");
  struct stat status;
  ASSERT_EQ(::stat((scratch / "file").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, nobody);
  EXPECT_EQ(status.st_gid, nobody - 1);
  EXPECT_EQ(status.st_mode & 07777, 0640U);

  // One who cannot have the group does not open the file to a group of its own.
  ASSERT_EQ(::chmod(scratch.path().c_str(), 0777), 0);
  EXPECT_TRUE(in_child([&] {
    ASSERT_EQ(::setgid(nobody), 0);
    ASSERT_EQ(::setuid(nobody - 2), 0);
    write(scratch / "file", "third");
  }));
  ASSERT_EQ(::stat((scratch / "file").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, nobody - 2);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
}

TEST(AtomicFile, MountPointsAndReadOnlyFileSystemsAreNamedAsSuch) {
  const ScratchDirectory scratch;
  write(scratch / "mounted", "x");
  write(scratch / "other", "y");
  std::filesystem::create_directory(scratch / "frozen");
  constexpr int no_mounts = 77;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const std::string frozen = scratch / "frozen";
    if (::unshare(::geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount((scratch / "other").c_str(), (scratch / "mounted").c_str(), nullptr, MS_BIND,
                nullptr) != 0 ||
        ::mount("none", frozen.c_str(), "tmpfs", MS_RDONLY, nullptr) != 0) {
      ::_exit(no_mounts);
    }
    EXPECT_THAT(refusal_of(scratch / "mounted"), HasSubstr("mount point"));
    EXPECT_THAT(refusal_of(scratch / "frozen" / "x"), HasSubstr("Read-only file system"));
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == no_mounts) {
    GTEST_SKIP() << "SKIPPED: nothing can be mounted here";
  }
  EXPECT_EQ(status, 0);
}

TEST(AtomicFile, CreatingTakesNoNameThatIsTaken) {
  const ScratchDirectory scratch;
  const std::string text = "x";
  const auto create = [&](const std::string& name) {
    return create_atomically(scratch / name, {std::as_bytes(std::span(text))});
  };
  EXPECT_TRUE(create("new"));
  EXPECT_EQ(read(scratch / "new"), "x");
  write(scratch / "victim", "precious");
  std::filesystem::create_symlink("victim", scratch / "planted");
  std::filesystem::create_symlink("nowhere", scratch / "dangling");
  for (const char* taken : {"new", "victim", "planted", "dangling"}) {
    EXPECT_FALSE(create(taken)) << taken;
  }
  EXPECT_EQ(read(scratch / "victim"), "precious");
  EXPECT_FALSE(std::filesystem::exists(scratch / "nowhere"));
  EXPECT_EQ(files_in(scratch.path()), 4);
  EXPECT_THROW(create("missing/x"), FileError);
}

}  // namespace
}  // namespace syncbn
