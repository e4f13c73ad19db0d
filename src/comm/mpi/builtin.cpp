// SPDX-License-Identifier: Apache-2.0
//
// The built-in exchange over MPI sums within a host through shared memory (node/exchange.hpp), and
// between hosts by messages of one rank of each host, the leader (leaders.hpp). MPI is used to set
// up the shared memory, to find out which ranks live on which host, and to carry the leaders'
// messages.
//
// All messages, also those of sub-groups (members.hpp), travel over one duplicate of the caller's
// communicator, and every wait has a deadline (meeting.hpp).

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <mpi.h>

#include <sys/stat.h>

#include "syncbn/error.hpp"

#include "comm/group/fingerprint.hpp"
#include "comm/group/flight_files.hpp"
#include "comm/group/this_host.hpp"
#include "comm/mpi/leaders.hpp"
#include "comm/mpi/meeting.hpp"
#include "comm/mpi/transports.hpp"
#include "comm/node/exchange.hpp"
#include "comm/node/shared_memory.hpp"

namespace syncbn::comm::mpi {
namespace {

using node::Area;
using node::SharedMemory;

constexpr const char* making = "making a communicator";

/// Says with which other ranks a rank can share memory.
struct Home {
  std::uint64_t key = 0;  ///< the same for ranks that can share memory, and for no others
  std::string host;       ///< name
};

/// Returns this rank's home. The key is a hash of MPI's name for the host, in which simulated hosts
/// differ; of this_host(), which tells apart hosts of one name; and of the PID namespace, which
/// tells apart containers that do not see each other's processes.
Home own_home() {
  std::array<char, MPI_MAX_PROCESSOR_NAME> processor{};
  int length = 0;
  check(MPI_Get_processor_name(processor.data(), &length), "MPI_Get_processor_name");
  struct stat process_space {};
  stat("/proc/self/ns/pid", &process_space);
  const std::string host = this_host();
  const std::uint64_t key = Fingerprint()
                                .add(std::as_bytes(std::span(processor)))
                                .add(std::as_bytes(std::span(host)))
                                .add(process_space.st_ino)
                                .value();
  return {key, host_name()};
}

/// Collective. Returns every member's home.
std::vector<Home> homes_of(Members& members, Deadlines deadlines) {
  const Home own = own_home();
  std::string record(reinterpret_cast<const char*>(&own.key), sizeof own.key);
  record += own.host;
  std::vector<Home> homes;
  for (const std::string& other : Meeting(members, making, deadlines).exchange(record)) {
    Home& home = homes.emplace_back();
    std::memcpy(&home.key, other.data(), sizeof home.key);
    home.host = other.substr(sizeof home.key);
  }
  return homes;
}

/// Puts members with the same home into nodes of at most `ranks_per_host`. Nodes are ordered by
/// their first members.
std::vector<Node> nodes_of(const std::vector<Home>& homes, int ranks_per_host) {
  std::vector<Node> nodes;
  std::map<std::uint64_t, std::size_t> latest;  // node of each home
  for (std::size_t member = 0; member < homes.size(); ++member) {
    const auto [found, is_new] = latest.emplace(homes[member].key, nodes.size());
    if (!is_new && nodes[found->second].ranks.size() == static_cast<std::size_t>(ranks_per_host)) {
      found->second = nodes.size();
    }
    if (found->second == nodes.size()) {
      nodes.push_back({{}, homes[member].host});
    }
    nodes[found->second].ranks.push_back(static_cast<int>(member));
  }
  return nodes;
}

/// Holds the areas of a node's ranks (node/shared.hpp), in shared memory if there are several.
class Memory {
 public:
  /// Makes the area of a rank in a group where every rank is alone on its node. Local.
  Memory() : ranks_(1) { introduce(0); }
  /// Collective over `members`, which include those of other nodes. `place` is this rank's index in
  /// `node.ranks`.
  Memory(Members& members, const Node& node, std::size_t place, Deadlines deadlines)
      : ranks_(node.ranks.size()) {
    const std::size_t bytes = ranks_ * sizeof(Area);
    Meeting first(members, making, deadlines);
    std::string address;
    if (ranks_ > 1 && place == 0) {
      guarded(first, [&] { shared_.emplace(SharedMemory::create(bytes)); });
      address = shared_->address();
    }
    address = first.exchange(address)[static_cast<std::size_t>(node.ranks.front())];
    Meeting second(members, making, deadlines);
    if (ranks_ > 1 && place != 0) {
      guarded(second, [&] { shared_.emplace(SharedMemory::open(address, bytes)); });
    }
    introduce(place);
    second.exchange("");
    if (shared_) {
      shared_->hide();
    }
  }

  std::vector<Area*> areas() const {
    if (alone_) {
      return {alone_.get()};
    }
    std::vector<Area*> all;
    for (std::size_t rank = 0; rank < ranks_; ++rank) {
      all.push_back(std::launder(reinterpret_cast<Area*>(shared_->data() + rank * sizeof(Area))));
    }
    return all;
  }

 private:
  // Runs `body`. If it throws, all members learn why, and all throw CommError.
  template <class Body>
  static void guarded(Meeting& meeting, Body body) {
    std::string problem;
    try {
      body();
      return;
    } catch (const std::exception& error) {
      problem = error.what();
    }
    meeting.refuse(problem);
  }

  void introduce(std::size_t place) {
    if (shared_) {
      node::introduce(*new (shared_->data() + place * sizeof(Area)) Area);
    } else {
      alone_ = std::make_unique<Area>();
      node::introduce(*alone_);
    }
  }

  std::size_t ranks_;
  std::unique_ptr<Area> alone_;
  std::optional<SharedMemory> shared_;
};

class Builtin final : public Transport {
 public:
  Builtin(Members members, std::vector<Home> homes, Deadlines deadlines, int ranks_per_host)
      : members_(std::move(members)),
        homes_(std::move(homes)),
        deadlines_(deadlines),
        ranks_per_host_(ranks_per_host) {
    std::vector<Node> nodes = nodes_of(homes_, ranks_per_host);
    std::vector<int> leaders;
    for (const Node& node : nodes) {
      leaders.push_back(node.ranks.front());
    }
    const Node own = *std::ranges::find_if(
        nodes, [&](const Node& node) { return std::ranges::count(node.ranks, rank()) > 0; });
    const auto place =
        static_cast<std::size_t>(std::ranges::find(own.ranks, rank()) - own.ranks.begin());
    if (nodes.size() == homes_.size()) {
      memory_.emplace();
    } else {
      memory_.emplace(members_, own, place, deadlines);
    }
    const std::vector<Area*> areas = memory_->areas();
    own_ = areas[place];
    const int owners = nodes.size() > 1 ? 1 : 0;
    std::unique_ptr<node::Network> between;
    if (owners > 0 && place == 0) {
      between = network(members_.among(leaders), std::move(nodes), deadlines);
    }
    exchange_ =
        std::make_unique<node::Exchange>(node::Ranks(areas, static_cast<int>(place), own.ranks),
                                         deadlines, owners, std::move(between));
  }

  int rank() const override { return members_.rank(); }
  int size() const override { return members_.size(); }
  Ticket start(const Message& message, std::span<double> data) override {
    return exchange_->start(message, data);
  }
  bool arrived(Ticket ticket) override { return exchange_->arrived(ticket); }
  void finish(Ticket ticket) override { exchange_->finish(ticket); }
  void give_up(std::string_view why) noexcept override { exchange_->give_up(why); }
  void refuse(std::string_view why) noexcept override { exchange_->refuse(why); }
  FlightRecord* flight_record() override { return &own_->flight_record; }

  std::unique_ptr<Transport> split(std::span<const int> colors) override {
    std::vector<int> some;
    std::vector<Home> homes;
    for (int member = 0; member < size(); ++member) {
      const auto place = static_cast<std::size_t>(member);
      if (colors[place] == colors[static_cast<std::size_t>(rank())]) {
        some.push_back(member);
        homes.push_back(homes_[place]);
      }
    }
    return std::make_unique<Builtin>(members_.part(some, free_lane()), std::move(homes), deadlines_,
                                     ranks_per_host_);
  }

 private:
  /// Collective. Returns a lane (a range of tags, members.hpp) that no member has used in another
  /// group.
  int free_lane() {
    int lane = 0;
    for (const std::string& next :
         Meeting(members_, making, deadlines_).exchange(std::to_string(members_.next_lane()))) {
      lane = std::max(lane, std::stoi(next));
    }
    return lane;
  }

  Members members_;
  std::vector<Home> homes_;  ///< one for each member
  Deadlines deadlines_;
  int ranks_per_host_;
  std::optional<Memory> memory_;
  Area* own_ = nullptr;
  std::unique_ptr<node::Exchange> exchange_;  ///< destroyed first, as it works on the memory
};

}  // namespace

std::unique_ptr<Transport> builtin_transport(Members members, Deadlines deadlines,
                                             int ranks_per_host) {
  std::vector<Home> homes = homes_of(members, deadlines);
  return std::make_unique<Builtin>(std::move(members), std::move(homes), deadlines, ranks_per_host);
}

}  // namespace syncbn::comm::mpi
