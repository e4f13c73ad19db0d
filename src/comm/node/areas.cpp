// SPDX-License-Identifier: Apache-2.0
#include "comm/node/areas.hpp"

#include <new>
#include <utility>

#include "syncbn/error.hpp"

namespace syncbn::comm::node {
namespace {

std::size_t bytes_for(std::size_t areas) {
  return sizeof(Layout) + areas * sizeof(Area);
}

std::string describe(const Layout& layout) {
  return "version " + std::to_string(layout.version) + ", features " +
         std::to_string(layout.features) + ", areas of " + std::to_string(layout.area_bytes) +
         " bytes";
}

/// Returns what `make` makes. Adds to its failure what ranks can do about it.
template <class Make>
SharedMemory shared_by_ranks(const Make& make) {
  try {
    return make();
  } catch (const CommError& error) {
    throw CommError(std::string(error.what()) +
                    ". The ranks of a host take 0.5 MB each; without it, choose MPI's exchange.");
  }
}

}  // namespace

std::shared_ptr<Areas> Areas::in_process(std::size_t count) {
  const std::shared_ptr<Areas> areas(new Areas);
  areas->own_ = std::make_unique<Area[]>(count);
  for (std::size_t place = 0; place < count; ++place) {
    areas->areas_.push_back(&areas->own_[place]);
    node::introduce(areas->own_[place]);
  }
  return areas;
}

std::shared_ptr<Areas> Areas::create(std::size_t count) {
  const std::shared_ptr<Areas> areas(new Areas);
  SharedMemory memory = shared_by_ranks([&] { return SharedMemory::create(bytes_for(count)); });
  new (memory.data()) Layout{.areas = count};
  areas->share(std::move(memory), count);
  return areas;
}

std::shared_ptr<Areas> Areas::attach(const std::string& address) {
  const std::shared_ptr<Areas> areas(new Areas);
  SharedMemory memory = shared_by_ranks([&] { return SharedMemory::open(address); });
  if (memory.bytes() < sizeof(Layout)) {
    throw CommError("the memory that the ranks of a host share has " +
                    std::to_string(memory.bytes()) + " bytes, too few for any of ours.");
  }
  const Layout& layout = *std::launder(reinterpret_cast<const Layout*>(memory.data()));
  require_our_layout(layout, memory.bytes());
  const std::size_t count = layout.areas;
  areas->share(std::move(memory), count);
  return areas;
}

void Areas::share(SharedMemory memory, std::size_t count) {
  shared_.emplace(std::move(memory));
  std::byte* const first = shared_->data() + sizeof(Layout);
  for (std::size_t place = 0; place < count; ++place) {
    areas_.push_back(std::launder(reinterpret_cast<Area*>(first + place * sizeof(Area))));
  }
}

void Areas::introduce(std::size_t place) {
  if (shared_) {
    node::introduce(*new (areas_[place]) Area);
  }
}

std::string Areas::address() const {
  return shared_->address();
}

void Areas::hide() {
  if (shared_) {
    shared_->hide();
  }
}

void require_our_layout(const Layout& found, std::size_t bytes) {
  if (found.magic != Layout::our_magic) {
    throw CommError(
        "the memory that the ranks of a host share is not of syncbn (it does not begin with our "
        "magic number). Was it made by this library, on this machine?");
  }
  const bool known = found.version == Layout::our_version &&
                     (found.features & ~Layout::our_features) == 0 &&
                     found.area_bytes == sizeof(Area);
  if (!known) {
    throw CommError("the memory that the ranks of a host share is laid out differently (it has " +
                    describe(found) + "; this process has " +
                    describe({.features = Layout::our_features}) +
                    "). Give all ranks the same version of syncbn.");
  }
  if (found.areas > (bytes - sizeof(Layout)) / sizeof(Area)) {
    throw CommError("the memory that the ranks of a host share has " + std::to_string(bytes) +
                    " bytes (too few for the " + std::to_string(found.areas) +
                    " areas that it says it has).");
  }
}

}  // namespace syncbn::comm::node
