// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <string>

#include "syncbn/error.hpp"

#include "app/session.hpp"

namespace syncbn::app {

Session::Session(int&, char**&) {}
Session::~Session() = default;

int Session::rank() const {
  return 0;
}
int Session::size() const {
  return 1;
}

namespace {

/// A launcher that starts several of these gets as many programs that do not know of each other.
void require_single_process() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const char* processes = std::getenv(variable);
    if (processes != nullptr && std::atoi(processes) > 1) {
      throw NotConfigured(std::string("started as ") + processes +
                          " processes, each of which would be alone (this build has no MPI). Start "
                          "one, or build with -DSYNCBN_MPI=ON.");
    }
  }
}

}  // namespace

World Session::world(const ExchangeOptions&) const {
  require_single_process();
  return {Communicator::self(), "none, a single process (this build has no MPI)", nullptr,
          "this build has no MPI, and so a single process. Build with Open MPI 5"};
}

std::optional<bool> Session::all_same(std::uint64_t, std::chrono::milliseconds) const {
  return true;
}

void Session::abort(int code) const {
  std::_Exit(code);
}

}  // namespace syncbn::app
