// SPDX-License-Identifier: Apache-2.0
#include "trainer/tensor_memory.hpp"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <new>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace syncbn::trainer {
namespace {

using testing::HasSubstr;

/// The line VmFlags of the mapping that holds the address; its words are in proc_pid_smaps(5).
std::string mapping_flags(const void* address) {
  std::ifstream smaps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    std::uintptr_t begin = 0, end = 0;
    char dash = 0;
    std::istringstream words(line);
    if (words >> std::hex >> begin >> dash >> end && dash == '-') {
      const auto at = reinterpret_cast<std::uintptr_t>(address);
      inside = begin <= at && at < end;
    } else if (inside && line.starts_with("VmFlags:")) {
      return line;
    }
  }
  return "";
}

TEST(TensorMemory, LargeTensorsAskForHugePages) {
  if (!std::filesystem::exists("/sys/kernel/mm/transparent_hugepage/enabled")) {
    GTEST_SKIP() << "this system has no transparent huge pages";
  }
  TensorBuffer<float> tensor(3 * huge_page / sizeof(float) / 2);
  EXPECT_THAT(mapping_flags(tensor.data()), HasSubstr(" hg"));
  EXPECT_THAT(mapping_flags(&tensor.back()), HasSubstr(" hg"));
}

TEST(TensorMemory, BeginsWhereVectorsAndHugePagesDo) {
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, huge_page - 1, huge_page, huge_page + 1, 5 * huge_page}) {
    std::byte* tensor = allocate_tensor(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor) % (bytes < huge_page ? 64 : huge_page), 0)
        << bytes;
    if (bytes > 0) {
      tensor[bytes - 1] = std::byte{1};
    }
    free_tensor(tensor, bytes);
  }
}

TEST(TensorMemory, TooMuchIsRefused) {
  EXPECT_THROW(allocate_tensor(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
}

}  // namespace
}  // namespace syncbn::trainer
