// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "app/doctor/finding.hpp"
#include "support/scratch_directory.hpp"

namespace syncbn::app::doctor {

/// Returns the facts of a rank with which all is well. Hosts are told apart by number.
inline Facts healthy(int host = 1) {
  Facts facts;
  facts.host = "node" + std::to_string(host);
  facts.machine = "machine" + std::to_string(host);
  facts.processors = {.online = "0-7",
                      .allowed = "0-7",
                      .quota = {},
                      .threads = 2,
                      .governor = "performance",
                      .frequency_driver = "acpi-cpufreq"};
  facts.shared_memory = {.problem = "", .bytes = 1e9, .free = 9e8};
  facts.limits = {.locked_bytes = {}, .open_files = 1024, .files_now = 20, .verbs = {"mlx5_0"}};
  facts.clock = {.source = "tsc", .read_cost = 25e-9, .wall_clock = 1.7e9};
  facts.traits = {.version = "0.1.0",
                  .program = "1 bytes, CRC-32 00000001",
                  .mpi = "Open MPI v4.1.4",
                  .instruction_set = "AVX2",
                  .kernel_release = "Linux 6.1",
                  .environment = {{"OMP_NUM_THREADS", "2"}},
                  .data = {{"train", "3 bytes, CRC-32 00000003"}}};
  facts.network = {.interfaces = {{"eth0", "10.0.0." + std::to_string(host), 24}}, .chosen = ""};
  facts.cuda = {.build = "cuda",
                .devices = {"0000:01:00.0", "0000:02:00.0"},
                .runtime = "12.4",
                .driver = "12.4",
                .problem = "",
                .with_nccl = true,
                .nccl = "2.28.9",
                .nccl_problem = ""};
  return facts;
}

/// Returns the worst finding of that name; fails the test if there is none.
inline Finding finding(const std::vector<Finding>& findings, std::string_view name) {
  Finding worst;
  for (const Finding& one : findings) {
    if (one.name == name && (worst.name.empty() || one.verdict.severity > worst.verdict.severity)) {
      worst = one;
    }
  }
  EXPECT_EQ(worst.name, name);
  return worst;
}

inline Severity severity(const std::vector<Finding>& findings, std::string_view name) {
  return finding(findings, name).verdict.severity;
}

/// A tree of the files in which Linux tells of itself.
class PlantedSystem : public testing::Test {
 protected:
  void write(const std::string& file, const std::string& text) const {
    const std::filesystem::path path = root_ / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  const std::filesystem::path& root() const { return root_.path(); }

 private:
  test::ScratchDirectory root_;
};

}  // namespace syncbn::app::doctor
