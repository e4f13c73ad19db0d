// SPDX-License-Identifier: Apache-2.0
//
// The synchronization service over MPI: within a host through shared memory (node/exchange.hpp),
// between hosts by messages of one rank of each, the leader (leaders.hpp). MPI starts it, finds out
// who lives where, and carries the leaders' messages.

#include <algorithm>
#include <array>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <mpi.h>

#include "syncbn/error.hpp"

#include "comm/mpi/leaders.hpp"
#include "comm/mpi/transports.hpp"
#include "comm/node/exchange.hpp"
#include "comm/node/shared_memory.hpp"

namespace syncbn::comm::mpi {
namespace {

using node::Area;
using node::SharedMemory;

/// The areas of a host's ranks.
class Memory {
 public:
  /// Collective over `host`.
  explicit Memory(const OwnedComm& host) : ranks_(static_cast<std::size_t>(host.size())) {
    if (ranks_ == 1) {
      alone_ = std::make_unique<Area>();
      node::introduce(*alone_);
      return;
    }
    const std::size_t bytes = ranks_ * sizeof(Area);
    std::array<char, 1024> words{};  // the address, which begins with a slash, or why there is none
    if (host.rank() == 0) {
      try {
        shared_.emplace(SharedMemory::create(bytes));
        node::write_text(words, shared_->address());
      } catch (const std::exception& error) {
        failure_ = error.what();
        node::write_text(words, failure_);
      }
    }
    check(MPI_Bcast(words.data(), words.size(), MPI_CHAR, 0, host.get()), "MPI_Bcast");
    if (host.rank() != 0 && words[0] != '/') {
      failure_ = words.data();
    } else if (host.rank() != 0) {
      try {
        shared_.emplace(SharedMemory::open(words.data(), bytes));
      } catch (const std::exception& error) {
        failure_ = error.what();
      }
    }
    if (shared_) {
      node::introduce(*new (shared_->data() + static_cast<std::size_t>(host.rank()) * sizeof(Area))
                          Area);
    }
  }

  const std::string& failure() const { return failure_; }
  void hide() {
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
  std::size_t ranks_;
  std::unique_ptr<Area> alone_;
  std::optional<SharedMemory> shared_;
  std::string failure_;
};

class Service final : public Transport {
 public:
  Service(OwnedComm comm, Deadlines deadlines, int ranks_per_host)
      : comm_(std::move(comm)),
        deadlines_(deadlines),
        ranks_per_host_(ranks_per_host),
        rank_(comm_.rank()),
        size_(comm_.size()),
        host_(split_by_host(comm_, ranks_per_host)),
        memory_(host_) {
    require_success_everywhere();
    memory_.hide();
    const std::vector<Area*> areas = memory_.areas();
    own_ = areas[static_cast<std::size_t>(host_.rank())];
    std::vector<int> names(areas.size());
    check(MPI_Allgather(&rank_, 1, MPI_INT, names.data(), 1, MPI_INT, host_.get()),
          "MPI_Allgather");
    const bool several_hosts = host_.size() < size_;
    std::unique_ptr<node::Network> between;
    if (several_hosts) {
      OwnedComm leaders = part(comm_, host_.rank() == 0 ? 0 : MPI_UNDEFINED);
      if (host_.rank() == 0) {
        between = network(std::move(leaders), names, deadlines);
      }
    }
    exchange_ =
        std::make_unique<node::Exchange>(node::Ranks(areas, host_.rank(), std::move(names)),
                                         deadlines, several_hosts ? 1 : 0, std::move(between));
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Ticket start(const Message& message, std::span<double> data) override {
    return exchange_->start(message, data);
  }
  void finish(Ticket ticket) override { exchange_->finish(ticket); }
  void give_up(std::string_view why) noexcept override { exchange_->give_up(why); }
  FlightRecord* flight_record() override { return &own_->flight_record; }

  std::unique_ptr<Transport> split(std::span<const int> colors) override {
    return std::make_unique<Service>(part_of_color(comm_, colors), deadlines_, ranks_per_host_);
  }

 private:
  static OwnedComm split_by_host(const OwnedComm& comm, int ranks_per_host) {
    MPI_Comm host = MPI_COMM_NULL;
    check(MPI_Comm_split_type(comm.get(), MPI_COMM_TYPE_SHARED, comm.rank(), MPI_INFO_NULL, &host),
          "MPI_Comm_split_type");
    const OwnedComm whole(host);
    return part(whole, whole.rank() / ranks_per_host);
  }

  void require_success_everywhere() {
    int failed = memory_.failure().empty() ? 0 : 1;
    check(MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_SUM, comm_.get()), "MPI_Allreduce");
    if (failed != 0) {
      throw CommError(memory_.failure().empty()
                          ? "another rank has no shared memory; see what it reports"
                          : memory_.failure());
    }
  }

  OwnedComm comm_;
  Deadlines deadlines_;
  int ranks_per_host_;
  int rank_;
  int size_;
  OwnedComm host_;
  Memory memory_;
  Area* own_ = nullptr;
  std::unique_ptr<node::Exchange> exchange_;  ///< goes before what it works on
};

}  // namespace

std::unique_ptr<Transport> service_transport(OwnedComm comm, Deadlines deadlines,
                                             int ranks_per_host) {
  return std::make_unique<Service>(std::move(comm), deadlines, ranks_per_host);
}

}  // namespace syncbn::comm::mpi
