// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>

#include "app/args.hpp"
#include "app/check/layer_run.hpp"
#include "app/check/report.hpp"
#include "app/command.hpp"
#include "app/device_world.hpp"
#include "app/flight_directory.hpp"
#include "app/output_files.hpp"
#include "app/print.hpp"
#include "app/words.hpp"

namespace syncbn::app {
namespace {

using namespace check;

constexpr Shape control_shape = {16, 31, 9};

void compare_modes(const LayerMaker& make, const Communicator& world, Outcome& outcome) {
  outcome.exact_bits.emplace();
  outcome.default_bits.emplace();
  for (std::size_t i = 0; i < outcome.cases.size(); ++i) {
    Case one = outcome.cases[i];
    compare_bits(make, one, i, outcome.seed, world, *outcome.exact_bits);
    one.reproducibility = Reproducibility::rank_consistent;
    compare_bits(make, one, i, outcome.seed, world, *outcome.default_bits);
  }
}

void run_cases(const LayerMaker& make, const Communicator& world, Outcome& outcome) {
  SharedBits bits;
  for (std::size_t i = 0; i < outcome.cases.size(); ++i) {
    run_case(make, outcome.cases[i], i, outcome.seed, world, outcome.findings, bits);
  }
  outcome.findings.merge(world);
  outcome.same_bits = bits.same_on_all(world);
  if (world.size() > 1) {
    outcome.control = run_local(make, {.device = outcome.selection.device, .shape = control_shape},
                                outcome.seed, world);
    if (outcome.selection.exact) {
      compare_modes(make, world, outcome);
    }
  }
}

class Check final : public Command {
 public:
  Check();
  int run(const World& world) override;

 private:
  Selection selection_;
  std::uint64_t seed_ = 1;
  std::filesystem::path json_;
};

Check::Check()
    : Command(
          "check",
          "Proves that these ranks give the result of one process that holds the whole batch:\n"
          "outputs, input and parameter gradients and running statistics against an oracle in "
          "extended\n"
          "precision, and that batch norm without the exchange would not. On devices that sum over "
          "NCCL,\n"
          "a third of the layers is replayed from CUDA graphs, too. Exit code 1 on any miss.",
          RunsOn::cpu_or_cuda) {
  CommandLine& line = command_line();
  line.section("What to check");
  line.choices("dtype", selection_.dtypes, dtype_words, "element types");
  line.choices("layout", selection_.layouts, layout_words, "memory orders");
  line.flag("quick", selection_.quick, "a third of the cases");
  line.flag("exact", selection_.exact,
            "layers whose results have the same bits for any ranks: also compares the bits with "
            "those of one process, for four ways to deal out the batch");
  line.number("seed", seed_, {}, "N", "of the random batches");
  line.section("Output");
  line.path("json", json_, "FILE", "also write the report as JSON");
  line.example("mpirun -n 4 syncbn check", "everything, over four ranks");
  line.example("mpirun -n 3 syncbn check --exact", "and that not a bit depends on the ranks");
  line.example("mpirun -n 4 syncbn check --device cuda", "the same on CUDA devices");
  line.example("srun syncbn check --dtype f32,bf16 --json check.json", "two types, on a cluster");
}

int Check::run(const World& world) {
  selection_.device = command_line().device();
  require_writable(world.communicator, json_);
  prepare_flight_directory(world.communicator, command_line().exchange().flight_record);

  const auto start = std::chrono::steady_clock::now();
  Outcome outcome;
  outcome.selection = selection_;
  outcome.seed = seed_;
  outcome.ranks = world.communicator.size();
  outcome.transport = world.transport;
  if (selection_.device != DeviceKind::cpu) {
    const DeviceWorld devices = open_devices(world, selection_.device, command_line().exchange());
    outcome.device = devices.device;
    outcome.transport = devices.exchange;
    outcome.selection.graphs = devices.capturable;
    outcome.cases = make_cases(outcome.selection);
    run_cases(layers_on_device(devices.all, devices.own), world.communicator, outcome);
  } else {
    outcome.cases = make_cases(outcome.selection);
    run_cases(layers_on_host(world.communicator), world.communicator, outcome);
  }
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  if (world.communicator.rank() == 0) {
    print(report_text(outcome));
  }
  write_report(world.communicator, json_, report_json(outcome));
  return passed(outcome) ? 0 : 1;
}

}  // namespace

std::unique_ptr<Command> make_check() {
  return std::make_unique<Check>();
}

}  // namespace syncbn::app
