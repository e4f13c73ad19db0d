// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/facts.hpp"

#include <nlohmann/json.hpp>

// A value that is missing is null.
template <class T>
struct nlohmann::adl_serializer<std::optional<T>> {
  static void to_json(json& to, const std::optional<T>& from) {
    to = from ? json(*from) : json(nullptr);
  }
  static void from_json(const json& from, std::optional<T>& to) {
    to = from.is_null() ? std::nullopt : std::optional<T>(from.get<T>());
  }
};

namespace syncbn::app::doctor {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LaunchFacts, problem, advice)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ProcessorFacts, online, allowed, quota, threads, governor,
                                   frequency_driver)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SharedMemoryFacts, problem, bytes, free)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LimitFacts, locked_bytes, open_files, files_now, verbs)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ClockFacts, source, read_cost, wall_clock)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TraitFacts, version, program, mpi, instruction_set,
                                   kernel_release, environment, data)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Interface, name, address, prefix)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(NetworkFacts, interfaces, chosen)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CudaFacts, build, devices, runtime, driver, problem, with_nccl,
                                   nccl, nccl_problem)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Facts, host, machine, launch, processors, shared_memory, limits,
                                   clock, traits, network, cuda)

std::string to_text(const Facts& facts) {
  // Variables of the environment may have any bytes.
  return nlohmann::json(facts).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Facts from_text(const std::string& text) {
  return nlohmann::json::parse(text).get<Facts>();
}

}  // namespace syncbn::app::doctor
