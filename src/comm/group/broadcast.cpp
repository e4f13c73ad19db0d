// SPDX-License-Identifier: Apache-2.0
#include "comm/group/broadcast.hpp"

#include <vector>

#include "comm/group/packed_bytes.hpp"

namespace syncbn::comm {

void broadcast(const Communicator& group, std::span<std::byte> bytes) {
  std::vector<double> words(words_of_bytes(bytes.size()), 0.0);
  if (group.rank() == 0) {
    pack_bytes(bytes, words);
  }
  group.all_reduce(words);
  unpack_bytes(words, bytes);
}

}  // namespace syncbn::comm
