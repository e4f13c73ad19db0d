// SPDX-License-Identifier: Apache-2.0
#include "core/shared_memory.hpp"

#include <algorithm>
#include <filesystem>
#include <string>
#include <unistd.h>

#include <gtest/gtest.h>
#include <sys/wait.h>

#include "syncbn/error.hpp"

namespace syncbn {
namespace {

constexpr std::size_t bytes = 1 << 20;

TEST(SharedMemory, IsTheSameInAnotherProcess) {
  const SharedMemory memory = SharedMemory::create(bytes);
  ASSERT_EQ(memory.data()[bytes - 1], std::byte{0});
  const pid_t child = fork();
  if (child == 0) {
    try {
      SharedMemory::open(memory.address()).data()[bytes - 1] = std::byte{7};
      _exit(0);
    } catch (const CommError&) {
      _exit(1);
    }
  }
  int status = 1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(memory.data()[bytes - 1], std::byte{7});
}

TEST(SharedMemory, HasNoNameThatCouldStayBehind) {
  const SharedMemory memory = SharedMemory::create(bytes);
  const auto has_our_name = [](const std::filesystem::directory_entry& entry) {
    const std::string own = "syncbn-" + std::to_string(getpid());
    return entry.path().filename().string().find(own) != std::string::npos;
  };
  std::error_code error;  // where there is no /dev/shm
  EXPECT_TRUE(
      std::ranges::none_of(std::filesystem::directory_iterator("/dev/shm", error), has_our_name));
}

TEST(SharedMemory, CannotBeOpenedWhenItIsHidden) {
  SharedMemory memory = SharedMemory::create(bytes);
  const std::string address = memory.address();
  memory.hide();
  EXPECT_THROW(SharedMemory::open(address), CommError);
  const SharedMemory other = SharedMemory::create(2 * bytes);  // perhaps under the same number
  EXPECT_THROW(SharedMemory::open(address), CommError);
}

}  // namespace
}  // namespace syncbn
