// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/internal_api.hpp"
#include "core/shared_memory.hpp"

#include "comm/node/shared.hpp"

namespace syncbn::comm::node {

/// Stands at the beginning of memory that processes share, and says what follows: the areas.
/// Whoever opens the memory may be another program with another version of this library. It takes a
/// page, so that areas begin as aligned as the memory does.
struct alignas(4096) Layout {
  static constexpr std::uint64_t our_magic = 0x61656172'6e62636e;  // "ncbnarea" in little endian
  /// Goes up when the meaning of anything in an Area changes.
  static constexpr std::uint32_t our_version = 2;
  /// The bits of `features` that this version knows: none has been needed so far.
  static constexpr std::uint32_t our_features = 0;

  std::uint64_t magic = our_magic;
  std::uint32_t version = our_version;
  std::uint32_t features = 0;  ///< what all who use the memory must know how to do, as bits
  std::uint64_t area_bytes = sizeof(Area);
  std::uint64_t areas = 0;  ///< how many follow
};

/// Owns, or maps, the areas of the members of a node. Needs no MPI: whoever makes shared memory
/// passes its address to the others, by whatever means they have.
class Areas {
 public:
  /// Makes areas in the memory of this process, whose threads they are for, and introduces all.
  SYNCBN_INTERNAL_API static std::shared_ptr<Areas> in_process(std::size_t count);
  /// Makes memory for `count` areas that other processes can attach until it is hidden. Throws
  /// CommError.
  SYNCBN_INTERNAL_API static std::shared_ptr<Areas> create(std::size_t count);
  /// Maps the memory that another process has made, whose address() was `address`. Throws
  /// CommError, with both sides' version and sizes, if that process has laid it out differently.
  SYNCBN_INTERNAL_API static std::shared_ptr<Areas> attach(const std::string& address);

  /// Makes this process the owner of an area in shared memory. Each area is introduced once, before
  /// anybody uses it.
  SYNCBN_INTERNAL_API void introduce(std::size_t place);

  /// Returns a text for `attach`, as SharedMemory::address does.
  SYNCBN_INTERNAL_API std::string address() const;
  /// Ends the time in which others can attach. Does nothing for areas that one process owns.
  SYNCBN_INTERNAL_API void hide();

  std::size_t count() const { return areas_.size(); }
  /// Returns an area. In shared memory it must have been introduced.
  Area& operator[](std::size_t place) const { return *areas_[place]; }
  /// Returns the areas, which exist as long as this object.
  const std::vector<Area*>& all() const { return areas_; }

 private:
  Areas() = default;
  void share(SharedMemory memory, std::size_t count);

  std::unique_ptr<Area[]> own_;
  std::optional<SharedMemory> shared_;
  std::vector<Area*> areas_;
};

/// Throws CommError unless memory of `bytes` bytes that begins with `found` is laid out as this
/// version does it.
void require_our_layout(const Layout& found, std::size_t bytes);

}  // namespace syncbn::comm::node
