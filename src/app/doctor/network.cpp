// SPDX-License-Identifier: Apache-2.0
//
// Open MPI connects hosts on all networks that both have an address of. Bridges of containers
// (docker0, cni0) have the same private address on every host, so a rank that connects to it
// reaches its own host, and waits for ever.
#include "app/doctor/network.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <ifaddrs.h>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <net/if.h>
#include <netinet/in.h>

namespace syncbn::app::doctor {
namespace {

constexpr double slow = 100e6;  ///< [B/s] a gigabit of Ethernet has 117e6

std::string text_of(const in_addr& address) {
  std::array<char, INET_ADDRSTRLEN> text{};
  return inet_ntop(AF_INET, &address, text.data(), text.size()) == nullptr ? "" : text.data();
}

int length_of(const sockaddr* mask) {
  return __builtin_popcount(reinterpret_cast<const sockaddr_in*>(mask)->sin_addr.s_addr);
}

std::string text_of(const Interface& interface) {
  return fmt::format("{} {}/{}", interface.name, interface.address, interface.prefix);
}

std::set<std::string> addresses_of(const Facts& facts) {
  std::set<std::string> addresses;
  for (const Interface& interface : facts.network.interfaces) {
    addresses.insert(interface.address);
  }
  return addresses;
}

/// Returns the addresses that several hosts have, each for itself. Hosts that have all addresses in
/// common are names for one network stack.
std::map<std::string, std::vector<std::string>> shared_addresses(
    const std::vector<Members>& hosts) {
  std::set<std::set<std::string>> stacks;
  std::map<std::string, std::vector<std::string>> hosts_of;
  for (const Members& host : hosts) {
    const std::set<std::string> addresses = addresses_of(host.facts.front());
    if (stacks.insert(addresses).second) {
      for (const std::string& address : addresses) {
        hosts_of[address].push_back(host.hosts.front());
      }
    }
  }
  std::erase_if(hosts_of, [](const auto& entry) { return entry.second.size() < 2; });
  return hosts_of;
}

/// Returns the networks on which all hosts have an address that is theirs alone.
std::set<std::string> common_networks(const std::vector<Members>& hosts) {
  const auto shared = shared_addresses(hosts);
  std::optional<std::set<std::string>> common;
  for (const Members& host : hosts) {
    std::set<std::string> networks;
    for (const Interface& interface : host.facts.front().network.interfaces) {
      const std::string network = network_of(interface);
      if (!shared.contains(interface.address) && (!common || common->contains(network))) {
        networks.insert(network);
      }
    }
    common = networks;
  }
  return common.value_or(std::set<std::string>());
}

/// Says how to tell this MPI to take a network.
std::string how_to_choose(const std::string& mpi, const std::string& network) {
  if (mpi.starts_with("MPICH")) {
    return "Name the interface that connects the hosts: `mpiexec -iface NAME`.";
  }
  return fmt::format(
      "Name the network that connects the hosts: `mpirun --mca btl_tcp_if_include {0} --mca "
      "oob_tcp_if_include {0}`.",
      network);
}

Verdict judge_interfaces(const Members& members) {
  const std::vector<Members> hosts = by_host(members.facts);
  const Facts& first = members.facts.front();
  const auto shared = shared_addresses(hosts);
  if (hosts.size() < 2) {
    return {Severity::ok, "all ranks are on one host", ""};
  }
  if (shared.empty()) {
    return {Severity::ok, "no two hosts have the same address", ""};
  }
  std::vector<std::string> texts;
  for (const auto& [address, names] : shared) {
    texts.push_back(fmt::format("{} ({})", address, fmt::join(names, ", ")));
  }
  const std::string seen = fmt::format("hosts have the same address: {}", fmt::join(texts, "; "));
  if (!first.network.chosen.empty()) {
    return {Severity::ok, fmt::format("{}; MPI is told {}", seen, first.network.chosen), ""};
  }
  const std::set<std::string> common = common_networks(hosts);
  return {first.limits.verbs.empty() ? Severity::error : Severity::warning,
          seen + ", on which MPI over TCP may connect a host with itself, and hang",
          how_to_choose(first.traits.mpi, common.empty() ? "CIDR" : *common.begin())};
}

Verdict judge_network(const Members& members) {
  const std::vector<Members> hosts = by_host(members.facts);
  if (hosts.size() < 2) {
    return {Severity::ok, "all ranks are on one host", ""};
  }
  const std::set<std::string> common = common_networks(hosts);
  if (!common.empty()) {
    return {Severity::ok, fmt::format("all hosts are on {}", fmt::join(common, ", ")), ""};
  }
  std::vector<std::string> texts;
  for (const Members& host : hosts) {
    std::vector<std::string> interfaces;
    for (const Interface& interface : host.facts.front().network.interfaces) {
      interfaces.push_back(text_of(interface));
    }
    texts.push_back(
        fmt::format("{}: {}", host.hosts.front(),
                    interfaces.empty() ? "none" : fmt::format("{}", fmt::join(interfaces, ", "))));
  }
  return {
      Severity::warning,
      fmt::format("there is no network that all hosts are on ({})", fmt::join(texts, "; ")),
      "Put the hosts on one network, or see that every pair is routed: `ping` from each host to "
      "the others' addresses."};
}

}  // namespace

std::string network_of(const Interface& interface) {
  in_addr address{};
  inet_pton(AF_INET, interface.address.c_str(), &address);
  const std::uint64_t mask = ~std::uint64_t{0} << (32 - interface.prefix);
  address.s_addr = htonl(ntohl(address.s_addr) & static_cast<std::uint32_t>(mask));
  return fmt::format("{}/{}", text_of(address), interface.prefix);
}

NetworkFacts read_network(const Environment& environment) {
  NetworkFacts facts;
  for (const char* parameter : {"btl_tcp_if_include", "btl_tcp_if_exclude"}) {
    if (const char* value = environment(("OMPI_MCA_" + std::string(parameter)).c_str())) {
      facts.chosen = fmt::format("{}={}", parameter, value);
      break;
    }
  }
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) {
    return facts;
  }
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> all(first, freeifaddrs);
  for (const ifaddrs* one = first; one != nullptr; one = one->ifa_next) {
    const bool up = (one->ifa_flags & IFF_UP) != 0 && (one->ifa_flags & IFF_LOOPBACK) == 0;
    if (up && one->ifa_addr != nullptr && one->ifa_addr->sa_family == AF_INET &&
        one->ifa_netmask != nullptr) {
      const auto* const address = reinterpret_cast<const sockaddr_in*>(one->ifa_addr);
      facts.interfaces.push_back(
          {one->ifa_name, text_of(address->sin_addr), length_of(one->ifa_netmask)});
    }
  }
  return facts;
}

std::vector<Finding> find_about_interfaces(const std::vector<Facts>& all) {
  std::vector<Finding> findings = judge("tcp-interfaces", {everybody(all)}, judge_interfaces);
  std::ranges::move(judge("common-network", {everybody(all)}, judge_network),
                    std::back_inserter(findings));
  return findings;
}

std::vector<Finding> find_about_speed(const std::vector<Facts>& all,
                                      const std::vector<Speed>& measured) {
  constexpr const char* name = "network-speed";
  if (measured.empty()) {
    const bool one_host = by_host(all).size() < 2;
    return judge(name, {everybody(all)}, [&](const Members&) {
      return one_host ? Verdict{Severity::ok, "all ranks are on one host", ""}
                      : Verdict{Severity::unknown, "messages between hosts were not measured", ""};
    });
  }
  std::vector<Finding> findings;
  for (const Speed& speed : measured) {
    Members pair;
    for (const int rank : {speed.from, speed.to}) {
      const Facts& facts = all[static_cast<std::size_t>(rank)];
      pair.ranks.push_back(rank);
      pair.hosts.push_back(facts.host);
      pair.facts.push_back(facts);
    }
    std::ranges::move(
        judge(
            name, {pair},
            [&](const Members&) -> Verdict {
              const std::string seen = fmt::format(
                  "from {} to {} and back in {:.0f} us, {:.0f} MB/s", pair.hosts.front(),
                  pair.hosts.back(), 1e6 * speed.round_trip, 1e-6 * speed.bandwidth);
              if (speed.bandwidth >= slow) {
                return {Severity::ok, seen, ""};
              }
              return {
                  Severity::warning, seen + ", less than a gigabit",
                  "Repeat it while the hosts are idle, as busy processors slow messages down, too. "
                  "Then look at the link (`ethtool eth0` tells its speed), and whether MPI takes "
                  "the fast network: `mpirun --mca btl_tcp_if_include CIDR`, for InfiniBand "
                  "`mpirun --mca pml ucx`."};
            }),
        std::back_inserter(findings));
  }
  return findings;
}

std::string advise_alone(const NetworkFacts& facts, const std::string& mpi) {
  std::vector<std::string> interfaces;
  std::string network;
  for (const Interface& interface : facts.interfaces) {
    interfaces.push_back(text_of(interface));
    const bool of_containers = std::ranges::any_of(
        std::array{"docker", "br-", "virbr", "cni", "flannel", "veth", "podman", "lxc"},
        [&](const char* begin) { return interface.name.starts_with(begin); });
    if (network.empty() && !of_containers) {
      network = network_of(interface);
    }
  }
  return fmt::format("This host has the networks {}{}. {}",
                     interfaces.empty() ? "none" : fmt::format("{}", fmt::join(interfaces, ", ")),
                     facts.chosen.empty() ? "" : fmt::format(" and MPI is told {}", facts.chosen),
                     how_to_choose(mpi, network.empty() ? "CIDR" : network));
}

}  // namespace syncbn::app::doctor
