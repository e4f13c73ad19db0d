// SPDX-License-Identifier: Apache-2.0
#include "comm/transport.hpp"

#include "comm/fingerprint.hpp"

namespace syncbn::comm {

Message stamped(const Descriptor& what, std::int64_t sequence, std::size_t length) {
  const std::uint64_t fingerprint = Fingerprint()
                                        .add(std::as_bytes(std::span(what.layer)))
                                        .add(static_cast<std::uint64_t>(what.channels))
                                        .add(length)
                                        .add(static_cast<std::uint64_t>(sequence))
                                        .add(static_cast<std::uint64_t>(what.pass))
                                        .add(static_cast<std::uint64_t>(what.dtype))
                                        .add(what.shared)
                                        .value();
  return {what, sequence, length, fingerprint};
}

}  // namespace syncbn::comm
