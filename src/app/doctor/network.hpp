// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "app/doctor/finding.hpp"
#include "app/launcher.hpp"

namespace syncbn::app::doctor {

/// Returns the interface's network: "10.77.0.0/24".
std::string network_of(const Interface& interface);

NetworkFacts read_network(const Environment& environment);

/// Finds tcp-interfaces and common-network.
std::vector<Finding> find_about_interfaces(const std::vector<Facts>& all);

/// A Speed is what messages between two hosts take.
struct Speed {
  int from = 0, to = 0;   ///< ranks, each on a host of its own
  double round_trip = 0;  ///< of 8 bytes [s]
  double bandwidth = 0;   ///< of 1 MiB, one way [B/s]
};

/// Finds network-speed.
std::vector<Finding> find_about_speed(const std::vector<Facts>& all,
                                      const std::vector<Speed>& measured);

/// Says which networks this rank could be reached on, and how to tell MPI which to take: for ranks
/// that others do not answer, and that so know nothing but themselves.
std::string advise_alone(const NetworkFacts& facts, const std::string& mpi);

}  // namespace syncbn::app::doctor
