// SPDX-License-Identifier: Apache-2.0
#include "syncbn/communicator.hpp"

#include "comm/group/group.hpp"
#include "comm/group/transport.hpp"

namespace syncbn {
namespace comm {
namespace {

class SelfTransport final : public Transport {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  Ticket start(const Message&, std::span<double>) override { return 0; }
  bool arrived(Ticket) override { return true; }
  void finish(Ticket) override {}
  void give_up(std::string_view) noexcept override {}
  std::unique_ptr<Transport> split(std::span<const int>) override {
    return std::make_unique<SelfTransport>();
  }
};

}  // namespace
}  // namespace comm

Communicator Communicator::self() {
  return Communicator(std::make_shared<comm::Group>(std::make_unique<comm::SelfTransport>()));
}

}  // namespace syncbn
