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
#include "comm/node/areas.hpp"
#include "comm/node/exchange.hpp"
#include "comm/node/transport.hpp"

namespace syncbn::comm::mpi {
namespace {

using node::Areas;

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

/// Runs `body`. If it throws, all members of the meeting learn why, and all throw CommError.
template <class Body>
void guarded(Meeting& meeting, Body body) {
  std::string problem;
  try {
    body();
    return;
  } catch (const std::exception& error) {
    problem = error.what();
  }
  meeting.refuse(problem);
}

/// Collective over `members`, which include those of other nodes. Returns the areas of this rank's
/// node, all of them introduced: in shared memory if it has several ranks. `place` is this rank's
/// index in `node.ranks`.
std::shared_ptr<Areas> shared_areas(Members& members, const Node& node, std::size_t place,
                                    Deadlines deadlines) {
  const std::size_t ranks = node.ranks.size();
  std::shared_ptr<Areas> areas;
  Meeting first(members, making, deadlines);
  std::string address;
  if (ranks > 1 && place == 0) {
    guarded(first, [&] { areas = Areas::create(ranks); });
    address = areas->address();
  }
  address = first.exchange(address)[static_cast<std::size_t>(node.ranks.front())];
  Meeting second(members, making, deadlines);
  if (ranks > 1 && place != 0) {
    guarded(second, [&] { areas = Areas::attach(address); });
  }
  if (ranks == 1) {
    areas = Areas::in_process(1);
  }
  areas->introduce(place);
  second.exchange("");
  areas->hide();
  return areas;
}

/// Collective. Returns this rank's part of the exchange of all members.
std::unique_ptr<node::Exchange> exchange_of(Members& members, const std::vector<Home>& homes,
                                            Deadlines deadlines, int ranks_per_host) {
  std::vector<Node> nodes = nodes_of(homes, ranks_per_host);
  std::vector<int> leaders;
  for (const Node& node : nodes) {
    leaders.push_back(node.ranks.front());
  }
  const int rank = members.rank();
  const Node own = *std::ranges::find_if(
      nodes, [&](const Node& node) { return std::ranges::count(node.ranks, rank) > 0; });
  const auto place =
      static_cast<std::size_t>(std::ranges::find(own.ranks, rank) - own.ranks.begin());
  const bool all_alone = nodes.size() == homes.size();
  const std::shared_ptr<Areas> areas =
      all_alone ? Areas::in_process(1) : shared_areas(members, own, place, deadlines);
  const node::Roles roles{.contributors = own.ranks.size(), .reducers = nodes.size() > 1 ? 1U : 0U};
  std::unique_ptr<node::Network> between;
  if (roles.reducers > 0 && place == 0) {
    between = network(members.among(leaders), std::move(nodes), deadlines);
  }
  return std::make_unique<node::Exchange>(node::Ranks(areas, place, own.ranks, roles), deadlines,
                                          std::move(between));
}

class Builtin final : public node::ExchangeTransport {
 public:
  Builtin(Members members, std::vector<Home> homes, Deadlines deadlines, int ranks_per_host)
      : ExchangeTransport(exchange_of(members, homes, deadlines, ranks_per_host)),
        members_(std::move(members)),
        homes_(std::move(homes)),
        deadlines_(deadlines),
        ranks_per_host_(ranks_per_host) {}

  int rank() const override { return members_.rank(); }
  int size() const override { return members_.size(); }

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
};

}  // namespace

std::unique_ptr<Transport> builtin_transport(Members members, Deadlines deadlines,
                                             int ranks_per_host) {
  std::vector<Home> homes = homes_of(members, deadlines);
  return std::make_unique<Builtin>(std::move(members), std::move(homes), deadlines, ranks_per_host);
}

}  // namespace syncbn::comm::mpi
