// SPDX-License-Identifier: Apache-2.0
//
// write_data_set DIRECTORY: a small data set in MNIST's format, the same at each call.
#include <cstdio>
#include <exception>
#include <filesystem>

#include "trainer/idx_files.hpp"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("Usage: write_data_set DIRECTORY\n", stderr);
    return 2;
  }
  try {
    std::filesystem::create_directories(argv[1]);
    syncbn::test::write_data_set(argv[1], 600, 30, 16);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "write_data_set: %s\n", error.what());
    return 1;
  }
}
