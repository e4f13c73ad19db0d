// SPDX-License-Identifier: Apache-2.0
#include "app/hosts.hpp"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>

#include "app/threads.hpp"
#include "comm/group/flight_files.hpp"
#include "trainer/agreement.hpp"

namespace syncbn::app {

std::map<std::string, std::vector<int>> ranks_by_host(const Communicator& world) {
  const std::vector<std::string> names = trainer::gather_texts(world, comm::host_name());
  std::map<std::string, std::vector<int>> hosts;
  for (int rank = 0; rank < world.size(); ++rank) {
    hosts[names[static_cast<std::size_t>(rank)]].push_back(rank);
  }
  return hosts;
}

int ranks_on_this_host(const Communicator& world) {
  for (const auto& [host, ranks] : ranks_by_host(world)) {
    if (std::ranges::binary_search(ranks, world.rank())) {
      return static_cast<int>(ranks.size());
    }
  }
  return 1;
}

int ranks_on_these_processors(const Communicator& world) {
  const std::vector<std::string> lists = trainer::gather_texts(world, processor_list());
  for (const auto& [host, ranks] : ranks_by_host(world)) {
    if (std::ranges::binary_search(ranks, world.rank())) {
      return static_cast<int>(std::ranges::count(ranks, processor_list(), [&](int rank) {
        return lists[static_cast<std::size_t>(rank)];
      }));
    }
  }
  return 1;
}

std::string ranges_text(const std::vector<int>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) {
      ++end;
    }
    text += text.empty() ? "" : ", ";
    text += end - i == 1 ? fmt::format("{}", numbers[i])
                         : fmt::format("{}-{}", numbers[i], numbers[end - 1]);
    i = end;
  }
  return text;
}

}  // namespace syncbn::app
