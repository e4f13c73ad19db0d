// SPDX-License-Identifier: Apache-2.0
#include "app/huge_pages.hpp"

#include <cstddef>
#include <fstream>

#include "trainer/tensor_memory.hpp"

namespace syncbn::app {
namespace {

/// Returns how much memory of this process is in huge pages now, 0 where the system does not say.
/// [KiB]
long in_huge_pages() {
  std::ifstream sums("/proc/self/smaps_rollup");
  for (std::string word; sums >> word;) {
    long kib = 0;
    if (word == "AnonHugePages:" && sums >> kib) {
      return kib;
    }
  }
  return 0;
}

bool huge_pages_come() {
  const long before = in_huge_pages();
  trainer::TensorBuffer<std::byte> tensor(2 * trainer::huge_page, std::byte{1});
  return in_huge_pages() > before;
}

}  // namespace

HugePages huge_pages(std::string_view setting, bool came) {
  if (setting.find("[never]") != std::string_view::npos) {
    return HugePages::never;
  }
  const bool everywhere = setting.find("[always]") != std::string_view::npos;
  if (!everywhere && setting.find("[madvise]") == std::string_view::npos) {
    return HugePages::unknown;
  }
  if (!came) {
    return HugePages::none_came;
  }
  return everywhere ? HugePages::everywhere : HugePages::on_request;
}

HugePages huge_pages_here() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string setting;
  std::getline(file, setting);
  return huge_pages(setting, huge_pages_come());
}

std::string explain(HugePages found) {
  switch (found) {
    case HugePages::everywhere:
      return "for all large memory";
    case HugePages::on_request:
      return "for memory that asks for them, as this tool's tensors; in programs of your own set\n"
             "              GLIBC_TUNABLES=glibc.malloc.hugetlb=1, for PyTorch "
             "THP_MEM_ALLOC_ENABLE=1";
    case HugePages::none_came:
      return "none came for 4 MiB that asked for them (memory may be short or in pieces)";
    case HugePages::never:
      return "never: tensors are in small pages, which are slower. As root: echo madvise >\n"
             "              /sys/kernel/mm/transparent_hugepage/enabled";
    case HugePages::unknown:
      break;
  }
  return "not known of this system";
}

}  // namespace syncbn::app
