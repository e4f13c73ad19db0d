// SPDX-License-Identifier: Apache-2.0
//
// The ranks are processes of one host. Another communicator of theirs carries the address of the
// memory that they share from then on.

#include "comm/host/processes.hpp"

#include <array>
#include <cstddef>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/group/access.hpp"
#include "comm/group/broadcast.hpp"
#include "comm/group/deadlines.hpp"
#include "comm/group/descriptor.hpp"
#include "comm/group/group.hpp"
#include "comm/node/exchange.hpp"
#include "comm/node/transport.hpp"

namespace syncbn {
namespace comm {
namespace {

/// Collective. Every rank tells why it cannot go on, "" if it can. Throws NotConfigured on all
/// ranks if one cannot.
void require_everywhere(const Communicator& bootstrap, const std::string& why_not_here) {
  const double cannot = why_not_here.empty() ? 0 : 1;
  const std::vector<double> all = bootstrap.all_gather({&cannot, 1});
  std::vector<int> without;
  for (int rank = 0; rank < bootstrap.size(); ++rank) {
    if (all[static_cast<std::size_t>(rank)] != 0) {
      without.push_back(rank);
    }
  }
  if (without.empty()) {
    return;
  }
  const std::string why =
      why_not_here.empty() ? list_ranks(without) + " cannot open it" : why_not_here;
  throw NotConfigured("no memory that all ranks share (" + why +
                      "). Their processes must be of one host, one user and one container.");
}

/// Returns "" if `body` succeeds, else why it failed.
template <class Body>
std::string failure_of(Body body) {
  try {
    body();
    return "";
  } catch (const CommError& error) {
    return error.what();
  }
}

/// What rank 0 tells the others.
struct Invitation {
  std::uint64_t group_number = 0;
  std::array<char, 248> address{};  ///< of the areas
};

/// The areas of all ranks, and the number of their new group.
struct Shared {
  std::shared_ptr<node::Areas> areas;
  std::uint64_t group_number;
};

/// Collective. Rank 0 makes the areas, and the others open them.
Shared share_areas(const Communicator& bootstrap) {
  std::shared_ptr<node::Areas> areas;
  Invitation invitation;
  const bool first = bootstrap.rank() == 0;
  std::string why_not;
  if (first) {
    why_not = failure_of([&] {
      areas = node::Areas::create(static_cast<std::size_t>(bootstrap.size()));
      areas->address().copy(invitation.address.data(), invitation.address.size() - 1);
      invitation.group_number = Group::new_number();
    });
  }
  require_everywhere(bootstrap, why_not);
  broadcast(bootstrap, std::as_writable_bytes(std::span(&invitation, 1)));
  if (!first) {
    why_not = failure_of([&] { areas = node::Areas::attach(invitation.address.data()); });
  }
  require_everywhere(bootstrap, why_not);
  areas->introduce(static_cast<std::size_t>(bootstrap.rank()));
  require_everywhere(bootstrap, "");  // all have been introduced, and have opened the memory
  areas->hide();
  return {areas, invitation.group_number};
}

class ProcessTransport final : public node::ExchangeTransport {
 public:
  ProcessTransport(const std::shared_ptr<node::Areas>& areas, int rank, Deadlines deadlines)
      : ExchangeTransport(std::make_unique<node::Exchange>(
            node::Ranks(areas, static_cast<std::size_t>(rank), names_of(areas->count())),
            deadlines)),
        rank_(rank),
        size_(static_cast<int>(areas->count())) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::unique_ptr<Transport> split(std::span<const int>) override {
    throw NotConfigured(
        "a communicator of processes cannot be split. Make the sub-group's of a bootstrap "
        "communicator of its own.");
  }

 private:
  static std::vector<int> names_of(std::size_t count) {
    std::vector<int> names(count);
    std::iota(names.begin(), names.end(), 0);
    return names;
  }

  int rank_;
  int size_;
};

}  // namespace

Communicator communicator_of_process(const std::shared_ptr<node::Areas>& areas, int rank,
                                     Deadlines deadlines, std::uint64_t number) {
  return Access::communicator(
      std::make_shared<Group>(std::make_unique<ProcessTransport>(areas, rank, deadlines), number));
}

}  // namespace comm

Communicator Communicator::processes(const Communicator& bootstrap, Deadlines deadlines) {
  comm::validated(deadlines);
  if (bootstrap.size() == 1) {
    return self();
  }
  const comm::Shared shared = comm::share_areas(bootstrap);
  return comm::communicator_of_process(shared.areas, bootstrap.rank(), deadlines,
                                       shared.group_number);
}

}  // namespace syncbn
