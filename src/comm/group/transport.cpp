// SPDX-License-Identifier: Apache-2.0
#include "comm/group/transport.hpp"

#include "comm/group/fingerprint.hpp"

namespace syncbn::comm {

// This runs for every message, so it must be quick. Each number is multiplied by an odd constant of
// its own (digits of pi, made odd) and the products are added, instead of a chain of Fingerprint's
// steps. If exactly one number differs, so does the sum; if several do, sums are equal as rarely as
// those of any hash.
Message stamped(const Descriptor& what, std::int64_t sequence, std::size_t length) {
  static_assert(most_facts == 4);
  const std::uint64_t numbers =
      static_cast<std::uint64_t>(what.count) * 0x243f6a8885a308d3 +
      static_cast<std::uint64_t>(length) * 0x13198a2e03707345 +
      static_cast<std::uint64_t>(sequence) * 0xa4093822299f31d1 +
      what.operation->hash * 0x082efa98ec4e6c89 +
      static_cast<std::uint64_t>(what.dtype) * 0x452821e638d01377 +
      what.facts[0] * 0xbe5466cf34e90c6d + what.facts[1] * 0xc0ac29b7c97c50dd +
      what.facts[2] * 0x3f84d5b5b5470917 + what.facts[3] * 0x9216d5d98979fb1b;
  const std::uint64_t fingerprint = Fingerprint()
                                        .add(std::as_bytes(std::span(what.subject)))
                                        .add(std::as_bytes(std::span(what.options)))
                                        .add(numbers)
                                        .value();
  return {what, sequence, length, fingerprint};
}

}  // namespace syncbn::comm
