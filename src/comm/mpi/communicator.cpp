// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mpi.h>

#include "syncbn/error.hpp"
#include "syncbn/mpi.hpp"

#include "comm/group/access.hpp"
#include "comm/group/deadlines.hpp"
#include "comm/group/group.hpp"
#include "comm/mpi/handles.hpp"
#include "comm/mpi/meeting.hpp"
#include "comm/mpi/transports.hpp"

namespace syncbn {

MpiExchange default_mpi_exchange() {
  const char* text = std::getenv("SYNCBN_EXCHANGE");
  const std::string_view chosen = text == nullptr ? "" : text;
  if (chosen.empty() || chosen == "builtin") {
    return MpiExchange::builtin;
  }
  if (chosen == "mpi") {
    return MpiExchange::mpi;
  }
  throw InvalidArgument("the environment has SYNCBN_EXCHANGE='" + std::string(chosen) +
                        "' (accepted: builtin, mpi)");
}

Communicator mpi_communicator(MPI_Comm comm, Deadlines deadlines, MpiExchange exchange) {
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (initialized == 0 || finalized != 0) {
    throw NotConfigured("mpi_communicator before MPI_Init or after MPI_Finalize.");
  }
  int between_groups = 0;
  if (comm == MPI_COMM_NULL || (MPI_Comm_test_inter(comm, &between_groups), between_groups != 0)) {
    throw InvalidArgument("mpi_communicator of MPI_COMM_NULL or of an intercommunicator.");
  }
  deadlines = comm::validated(deadlines);
  comm::mpi::Members all(comm::mpi::duplicate(comm, deadlines));
  const std::string mine = exchange == MpiExchange::mpi ? "mpi " : "builtin ";
  const std::vector<std::string> theirs =
      comm::mpi::Meeting(all, "making a communicator", deadlines)
          .exchange(mine + std::to_string(comm::Group::new_number()));
  const bool agree = std::ranges::all_of(
      theirs, [&](const std::string& record) { return record.starts_with(mine); });
  if (!agree) {
    throw InvalidArgument(
        "some ranks chose the builtin exchange and some MPI's. Give all the same, also "
        "SYNCBN_EXCHANGE in the environment of every host.");
  }
  const std::uint64_t number = std::stoull(theirs.front().substr(mine.size()));
  return comm::Access::communicator(std::make_shared<comm::Group>(
      exchange == MpiExchange::mpi ? comm::mpi::mpi_transport(std::move(all), deadlines)
                                   : comm::mpi::builtin_transport(std::move(all), deadlines),
      number));
}

}  // namespace syncbn
