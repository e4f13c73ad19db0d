// SPDX-License-Identifier: Apache-2.0
#include "app/mpi_calls.hpp"

#include <mpi.h>

#include "comm/mpi/handles.hpp"

namespace syncbn::app {
namespace {

using comm::mpi::check;
using comm::mpi::OwnedComm;

MPI_Comm split_world(int color) {
  int rank = 0;
  MPI_Comm part = MPI_COMM_NULL;
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "asking for the rank");
  check(MPI_Comm_split(MPI_COMM_WORLD, color, rank, &part), "splitting MPI_COMM_WORLD");
  return part;
}

class MpiCalls final : public PlainMpi {
 public:
  explicit MpiCalls(int color) : comm_(split_world(color)) {}

  void all_reduce(std::span<double> data) override {
    check(MPI_Allreduce(MPI_IN_PLACE, data.data(), static_cast<int>(data.size()), MPI_DOUBLE,
                        MPI_SUM, comm_.get()),
          "MPI_Allreduce");
  }

  void ping(int peer, std::span<std::byte> message) override {
    send(peer, message);
    receive(peer, message);
  }

  void return_ping(int peer, std::span<std::byte> message) override {
    receive(peer, message);
    send(peer, message);
  }

 private:
  static constexpr int tag = 0;

  void send(int peer, std::span<const std::byte> message) {
    check(MPI_Send(message.data(), static_cast<int>(message.size()), MPI_BYTE, peer, tag,
                   comm_.get()),
          "MPI_Send");
  }

  void receive(int peer, std::span<std::byte> message) {
    check(MPI_Recv(message.data(), static_cast<int>(message.size()), MPI_BYTE, peer, tag,
                   comm_.get(), MPI_STATUS_IGNORE),
          "MPI_Recv");
  }

  OwnedComm comm_;
};

}  // namespace

std::unique_ptr<PlainMpi> make_plain_mpi(int color) {
  return std::make_unique<MpiCalls>(color);
}

}  // namespace syncbn::app
