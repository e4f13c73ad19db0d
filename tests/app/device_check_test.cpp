// SPDX-License-Identifier: Apache-2.0

// The check of layers on devices, with one that the host emulates.

#include <cmath>
#include <fstream>
#include <memory>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "syncbn/error.hpp"

#include "app/check/layer_run.hpp"
#include "app/check/report.hpp"
#include "app/command.hpp"
#include "app/run_command.hpp"
#include "comm/nccl/emulated/failures.hpp"
#include "cuda/emulated.hpp"
#include "support/on_ranks.hpp"
#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"

namespace syncbn::test {
namespace {

using namespace app::check;

LayerMaker layers_over(const Communicator& ranks) {
  return layers_on_device(DeviceCommunicator::staged(ranks),
                          DeviceCommunicator::staged(Communicator::self()));
}

TEST(DeviceCheck, FindsNothingWrong) {
  on_ranks([](const Communicator& ranks) {
    const ScratchDirectory scratch;
    const std::string file = (scratch.path() / "check.json").string();
    EXPECT_EQ(run_command(app::make_check(),
                          {"--device", "emulated", "--exchange", "builtin", "--json", file}, ranks),
              0);
    if (ranks.rank() != 0) {
      return;
    }
    const auto report = nlohmann::json::parse(std::ifstream(file));
    EXPECT_EQ(report["device"]["name"], "emulated: the host runs the kernels of a device");
    EXPECT_EQ(report["transport"], "staged through the host, threads");
    EXPECT_EQ(report["results"].size(), 4 * 9);
    EXPECT_EQ(report["local_control"].is_null(), ranks.size() == 1);
    EXPECT_EQ(report["replayed"], 0);  // a graph cannot hold staged sums
    for (const auto& result : report["results"]) {
      EXPECT_GT(result["error"], result["quantity"] == "dresidual" ? -1 : 0) << result;
    }
  });
}

/// Runs the check over NCCL, and expects rank 0's report to find nothing wrong.
void expect_good_over_nccl(const Communicator& ranks, bool exact) {
  const ScratchDirectory scratch;
  const std::string file = (scratch.path() / "check.json").string();
  std::vector<std::string> arguments{"--device", "emulated", "--exchange", "nccl", "--quick",
                                     "--dtype",  "f32",      "--json",     file};
  if (exact) {
    arguments.emplace_back("--exact");
  }
  EXPECT_EQ(run_command(app::make_check(), arguments, ranks), 0);
  if (ranks.rank() == 0) {
    const auto report = nlohmann::json::parse(std::ifstream(file));
    EXPECT_EQ(report["transport"], "NCCL emulated");
    EXPECT_EQ(report["exact"].is_null(), !exact || ranks.size() == 1);
    EXPECT_GT(report["replayed"], report["cases"].get<int>() / 6);
  }
}

// Processes do so in app/device_check/nccl.
TEST(DeviceCheck, FindsNothingWrongOverNccl) {
  for (const int ranks : {2, 3, 5}) {
    on_thread_ranks(
        ranks, [](const Communicator& each) { expect_good_over_nccl(each, false); }, patience);
  }
  on_thread_ranks(
      5, [](const Communicator& each) { expect_good_over_nccl(each, true); }, patience);
}

// The check is worth something: it sees a sum that NCCL drops, and an NCCL that stands still.
TEST(DeviceCheck, SeesThatNcclDropsASumOrStandsStill) {
  for (const ncclResult_t code : {ncclSuccess, ncclInProgress}) {
    on_thread_ranks(
        2,
        [code](const Communicator& ranks) {
          if (ranks.rank() == 1) {
            const bool drops = code == ncclSuccess;
            comm::nccl::emulated::plant(
                {.function = drops ? "AllReduce" : "CommGetAsyncError", .rank = 1, .code = code});
          }
          EXPECT_THROW(run_command(app::make_check(),
                                   {"--device", "emulated", "--exchange", "nccl", "--quick",
                                    "--dtype", "f32", "--timeout", "2"},
                                   ranks),
                       CommError);
        },
        patience);
  }
}

TEST(DeviceCheck, ProvesThatExactSumsDoNotDependOnTheRanks) {
  on_ranks([](const Communicator& ranks) {
    const ScratchDirectory scratch;
    const std::string file = (scratch.path() / "check.json").string();
    EXPECT_EQ(run_command(app::make_check(),
                          {"--device", "emulated", "--exact", "--quick", "--dtype", "f32,bf16",
                           "--json", file},
                          ranks),
              0);
    if (ranks.rank() != 0) {
      return;
    }
    const auto report = nlohmann::json::parse(std::ifstream(file));
    EXPECT_EQ(report["results"].size(), 2 * 9);
    if (ranks.size() == 1) {
      EXPECT_TRUE(report["exact"].is_null());
      return;
    }
    EXPECT_EQ(report["exact"]["different"], 0);
    EXPECT_GT(report["exact"]["compared"], 1e5);
    EXPECT_GT(report["exact"]["different_by_default"], 100);
  });
}

/// A layer of which one number is off.
class Perturbed final : public Layer {
 public:
  Perturbed(std::unique_ptr<Layer> layer, void (*perturb)(StepResults&))
      : layer_(std::move(layer)), perturb_(perturb) {}

  StepResults train(const Batch& batch) override {
    StepResults results = layer_->train(batch);
    perturb_(results);
    return results;
  }

 private:
  std::unique_ptr<Layer> layer_;
  void (*perturb_)(StepResults&);
};

bool finds(const Communicator& ranks, Quantity quantity, void (*perturb)(StepResults&)) {
  const LayerMaker make = [&](const Case& one, const Parameters& parameters, const Shard& shard,
                              Ranks which) -> std::unique_ptr<Layer> {
    auto layer = layers_over(ranks)(one, parameters, shard, which);
    return std::make_unique<Perturbed>(std::move(layer), perturb);
  };
  Findings findings;
  SharedBits bits;
  const Case one{.device = app::DeviceKind::emulated, .shape = {16, 5, 9}};
  run_case(make, one, 0, 1, ranks, findings, bits);
  findings.merge(ranks);
  EXPECT_TRUE(bits.same_on_all(ranks));
  return !findings.of(one.dtype, quantity).good();
}

TEST(DeviceCheck, FindsASingleNumberThatIsALittleOff) {
  on_ranks([](const Communicator& ranks) {
    EXPECT_FALSE(finds(ranks, Quantity::y, [](StepResults&) {}));
    EXPECT_TRUE(finds(ranks, Quantity::y, [](StepResults& of) { of.y.back() += 2e-5; }));
    EXPECT_TRUE(finds(ranks, Quantity::dx, [](StepResults& of) { of.dx.front() += 2e-5; }));
    EXPECT_TRUE(
        finds(ranks, Quantity::weight_grad, [](StepResults& of) { of.weight_grad[2] *= 1.001; }));
    EXPECT_TRUE(
        finds(ranks, Quantity::running_var, [](StepResults& of) { of.running_var[4] *= 1.00001; }));
    EXPECT_TRUE(finds(ranks, Quantity::running_mean,
                      [](StepResults& of) { of.running_mean[0] = std::nan(""); }));
  });
}

/// What checks of a layer have found, whose second and third step are replays of a graph.
struct Replays {
  bool values;  ///< those are the whole batch's
  bool bits;    ///< those are a single process's
};

Replays replays(Reproducibility reproducibility) {
  const Communicator self = Communicator::self();
  const LayerMaker make = layers_on_device(DeviceCommunicator::self(), DeviceCommunicator::self());
  const Case one{.device = app::DeviceKind::emulated,
                 .shape = {16, 5, 9},
                 .replayed = true,
                 .reproducibility = reproducibility};
  Findings findings;
  SharedBits shared;
  run_case(make, one, 0, 1, self, findings, shared);
  BitComparison bits;
  compare_bits(make, one, 0, 1, self, bits);
  EXPECT_GT(bits.compared, 0);
  bool good = true;
  for (const Quantity quantity : {Quantity::y, Quantity::dx, Quantity::running_mean}) {
    good = good && findings.of(one.dtype, quantity).good();
  }
  return {.values = good, .bits = bits.different == 0};
}

TEST(DeviceCheck, FindsAGraphWhoseReplaysDoNothing) {
  for (const auto kind : {Reproducibility::rank_consistent, Reproducibility::exact}) {
    const Replays right = replays(kind);
    EXPECT_TRUE(right.values && right.bits);
    const cuda::LeavesOut fault(cuda::Call::graph_replay);
    const Replays wrong = replays(kind);
    EXPECT_FALSE(wrong.values);
    EXPECT_FALSE(wrong.bits);
  }
}

TEST(DeviceCheck, TellsLocalBatchNormApart) {
  on_ranks([](const Communicator& ranks) {
    const Case one{.device = app::DeviceKind::emulated, .shape = {16, 31, 9}};
    const Worst worst = run_local(layers_over(ranks), one, 1, ranks);
    if (ranks.size() == 1) {
      EXPECT_TRUE(worst.good());
    } else {
      EXPECT_GT(worst.used, 100);
    }
  });
}

}  // namespace
}  // namespace syncbn::test
