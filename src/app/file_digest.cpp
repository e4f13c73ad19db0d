// SPDX-License-Identifier: Apache-2.0
#include "app/file_digest.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <boost/crc.hpp>
#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "core/regular_file.hpp"

namespace syncbn::app {

std::string file_digest(const std::filesystem::path& name) {
  try {
    RegularFile file(name);
    boost::crc_32_type crc;
    std::vector<std::byte> buffer(1 << 20);
    for (std::uint64_t left = file.size(); left > 0;) {
      const std::span part(buffer.data(), std::min<std::uint64_t>(left, buffer.size()));
      file.read(part);
      crc.process_bytes(part.data(), part.size());
      left -= part.size();
    }
    return fmt::format("{} bytes, CRC-32 {:08x}", file.size(), crc.checksum());
  } catch (const FileError& error) {
    return error.what();
  }
}

}  // namespace syncbn::app
