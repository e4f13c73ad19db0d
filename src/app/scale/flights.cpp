// SPDX-License-Identifier: Apache-2.0
#include "app/scale/flights.hpp"

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace syncbn::app::scale {
namespace {

/// A Flight is one exchange as this rank saw it.
struct Flight {
  double arrival, exit;  ///< on the common clock [ns]
  bool in_blocks;
};

/// Returns this rank's exchanges of layers by their sequence numbers, which all ranks share.
std::map<std::int64_t, Flight> own_flights(const Communicator& group, const CommonClock& clock,
                                           std::int64_t after) {
  std::map<std::int64_t, Flight> flights;
  const Json record = Json::parse(group.flight_record());
  for (const Json& exchange : record["exchanges"]) {
    const std::string operation = exchange["operation"];
    const bool of_layer = operation.starts_with("forward") || operation.starts_with("backward");
    if (!of_layer || exchange["sequence"] <= after || exchange["seconds"].is_null()) {
      continue;
    }
    const auto arrival = static_cast<double>(clock.from_system_clock(exchange["started"]));
    flights[exchange["sequence"]] = {arrival, arrival + 1e9 * exchange["seconds"].get<double>(),
                                     exchange["facts"].value("blocks of channels", 1) > 1};
  }
  return flights;
}

}  // namespace

std::optional<LayerExchanges> layer_exchanges(const Communicator& group, const CommonClock& clock,
                                              std::int64_t after) {
  const std::map<std::int64_t, Flight> own = own_flights(group, clock, after);
  std::vector<double> numbers;
  LayerExchanges exchanges;
  for (const auto& [sequence, flight] : own) {
    numbers.insert(numbers.end(), {flight.arrival, flight.exit});
    exchanges.in_blocks = exchanges.in_blocks || flight.in_blocks;
  }
  if (own.empty()) {
    return std::nullopt;
  }
  const std::vector<double> all = group.all_gather(numbers);
  const auto ranks = static_cast<std::size_t>(group.size());
  exchanges.arrivals.arrival.resize(ranks);
  exchanges.arrivals.exit.resize(ranks);
  for (std::size_t i = 0; i < all.size(); i += 2) {
    const std::size_t rank = i / numbers.size();
    exchanges.arrivals.arrival[rank].push_back(std::lround(all[i]));
    exchanges.arrivals.exit[rank].push_back(std::lround(all[i + 1]));
  }
  return exchanges;
}

}  // namespace syncbn::app::scale
