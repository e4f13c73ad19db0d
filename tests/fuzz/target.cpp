// SPDX-License-Identifier: Apache-2.0
#include "fuzz/target.hpp"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  syncbn::fuzz::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
