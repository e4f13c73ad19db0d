// SPDX-License-Identifier: Apache-2.0
//
// Linux gives the sizes of caches, and which processors share one, in
// /sys/devices/system/cpu/cpu0/cache/indexI/{level,type,size,shared_cpu_list}
// (Documentation/ABI/testing/sysfs-devices-system-cpu). All processors are taken to be like the
// first one.

#include "kernels/cpu/cache.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>

#include "kernels/cpu/threads.hpp"

namespace syncbn::kernels::cpu {
namespace {

/// Bytes of the second and of the last level of cache that each processor may count on.
struct Shares {
  std::int64_t second = std::int64_t{512} << 10;  ///< these hold unless Linux gives others
  std::int64_t last = std::int64_t{1} << 20;
};

/// The most bytes of the last level that a processor counts on. A virtual machine may show the
/// whole machine's cache as its own, and hide the others that use it.
constexpr std::int64_t most_of_last = std::int64_t{16} << 20;

// Reads the number that "32768K", "32M" or "0-3,8" begins with, and moves `text` behind it.
std::int64_t leading_number(const char*& text) {
  char* rest = nullptr;
  const std::int64_t number = std::strtoll(text, &rest, 10);
  text = rest;
  return number;
}

std::int64_t bytes_of(const std::string& size) {
  const char* text = size.c_str();
  const std::int64_t number = leading_number(text);
  return number << (*text == 'K' ? 10 : *text == 'M' ? 20 : *text == 'G' ? 30 : 0);
}

std::int64_t processors_in(const std::string& list) {
  std::int64_t count = 0;
  for (const char* text = list.c_str(); *text >= '0' && *text <= '9';) {
    const std::int64_t first = leading_number(text);
    const std::int64_t last = *text == '-' ? leading_number(++text) : first;
    count += last - first + 1;
    text += *text == ',' ? 1 : 0;
  }
  return std::max<std::int64_t>(count, 1);
}

std::string line_of(const std::string& file) {
  std::string line;
  std::getline(std::ifstream(file) >> std::ws, line);
  return line;
}

Shares read_shares() {
  Shares shares;
  std::string deepest = "2";
  for (int i = 0;; ++i) {
    const std::string cache = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/";
    const std::string level = line_of(cache + "level");
    if (level.empty()) {
      return shares;
    }
    const std::int64_t share =
        bytes_of(line_of(cache + "size")) / processors_in(line_of(cache + "shared_cpu_list"));
    if (share <= 0 || line_of(cache + "type") == "Instruction") {
      continue;
    }
    if (level == "2") {
      shares.second = share;
    }
    if (level >= deepest) {
      deepest = level;
      shares.last = share;
    }
  }
}

}  // namespace

std::int64_t cache_bytes() {
  static const Shares shares = read_shares();
  return std::max(shares.second, std::min(shares.last, most_of_last)) * thread_count();
}

}  // namespace syncbn::kernels::cpu
