// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "app/session.hpp"

namespace syncbn::app {

Session::Session(Deadlines) {}
Session::~Session() = default;

int Session::rank() const {
  return 0;
}
int Session::size() const {
  return 1;
}

std::string Session::library() {
  return "";
}

World Session::world(const ExchangeOptions&) const {
  return {Communicator::self(),
          "none, a single process (this build has no MPI)",
          "",
          nullptr,
          "this build has no MPI, and so a single process. Build with Open MPI 5",
          nullptr};
}

std::optional<bool> Session::all_same(std::uint64_t, std::chrono::milliseconds) const {
  return true;
}

std::string Session::silence() const {
  return "";
}

void Session::abort(int code) const {
  std::_Exit(code);
}

}  // namespace syncbn::app
