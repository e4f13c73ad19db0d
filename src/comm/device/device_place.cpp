// SPDX-License-Identifier: Apache-2.0
#include "comm/device/device_place.hpp"

#include <array>
#include <map>
#include <span>
#include <vector>

#include "syncbn/error.hpp"

#include "comm/group/descriptor.hpp"
#include "comm/group/fingerprint.hpp"
#include "comm/group/packed_bytes.hpp"

namespace syncbn::comm {
namespace {

constexpr std::size_t host_words = fingerprint_words / 2;
constexpr std::size_t longest_bus = 20;
constexpr std::size_t bus_words = words_of_bytes(longest_bus);

}  // namespace

void require_own_device(const Communicator& group, const DevicePlace& own) {
  std::array<double, host_words + bus_words + 1> mine;
  const std::uint64_t host = Fingerprint().add(std::as_bytes(std::span(own.host))).value();
  for (std::size_t i = 0; i < host_words; ++i) {
    mine[i] = fingerprint_word(host, i);
  }
  pack_bytes(std::as_bytes(std::span(own.bus)), std::span(mine).subspan<host_words, bus_words>());
  mine.back() = own.to_be_shared ? 1 : 0;
  const std::vector<double> all = group.all_gather(mine);

  struct Ranks {
    std::vector<int> numbers;
    bool share = true;
  };
  std::map<std::vector<double>, Ranks> ranks_at;
  for (int rank = 0; rank < group.size(); ++rank) {
    const auto one =
        std::span(all).subspan(mine.size() * static_cast<std::size_t>(rank), mine.size());
    Ranks& ranks = ranks_at[std::vector(one.begin(), one.end() - 1)];
    ranks.numbers.push_back(rank);
    ranks.share &= one.back() != 0;
  }
  for (const auto& [place, ranks] : ranks_at) {
    if (ranks.numbers.size() > 1 && !ranks.share) {
      std::string bus(longest_bus, '\0');
      unpack_bytes(std::span(place).last(bus_words), std::as_writable_bytes(std::span(bus)));
      throw InvalidArgument(list_ranks(ranks.numbers) + " of " + std::to_string(group.size()) +
                            " have the same device, " + bus.c_str() +
                            " of one host (NCCL needs one for each rank, or to be 2.30.3 or newer "
                            "and NCCL_MULTI_RANK_GPU_ENABLE=1). Choose with cudaSetDevice before, "
                            "or take DeviceCommunicator::staged.");
    }
  }
}

}  // namespace syncbn::comm
