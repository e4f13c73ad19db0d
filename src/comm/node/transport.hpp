// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "comm/group/transport.hpp"
#include "comm/node/exchange.hpp"

namespace syncbn::comm::node {

/// Carries messages by an Exchange. What derives from it says which ranks there are.
class ExchangeTransport : public Transport {
 public:
  Ticket start(const Message& message, std::span<double> data) final {
    return exchange_->start(message, data);
  }
  bool arrived(Ticket ticket) final { return exchange_->arrived(ticket); }
  void finish(Ticket ticket) final { exchange_->finish(ticket); }
  void give_up(std::string_view why) noexcept final { exchange_->give_up(why); }
  void refuse(std::string_view why) noexcept final { exchange_->refuse(why); }
  FlightRecord* flight_record() final { return exchange_->flight_record(); }

 protected:
  explicit ExchangeTransport(std::unique_ptr<Exchange> exchange) : exchange_(std::move(exchange)) {}

 private:
  std::unique_ptr<Exchange> exchange_;
};

}  // namespace syncbn::comm::node
