// SPDX-License-Identifier: Apache-2.0
//
// Ranks that leave in the middle of a run, as one does that is lost, and what the others make of
// it.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "support/on_ranks.hpp"
#include "trainer/idx_files.hpp"
#include "trainer/networks.hpp"
#include "trainer/snapshots.hpp"
#include "trainer/trainer.hpp"
#include "trainer/training_directory.hpp"

namespace syncbn::trainer {
namespace {

using test::barrier;
using test::losses_of;
using test::on_ranks;
using test::read_bytes;
using test::TrainingDirectory;
using testing::ElementsAre;

struct Lost {};

/// What a rank was told, until it is lost.
class Journal final : public Observer {
 public:
  explicit Journal(std::optional<std::int64_t> lost_after) : lost_after_(lost_after) {}

  void on_step(const StepReport& report) override {
    losses_.push_back(report.loss);
    if (report.step == lost_after_) {
      throw Lost();
    }
  }
  void on_recovery(std::int64_t steps_done, const Communicator& ranks) override {
    recoveries_.emplace_back(steps_done, ranks.size());
  }

  const std::vector<double>& losses() const { return losses_; }
  const std::vector<std::pair<std::int64_t, int>>& recoveries() const { return recoveries_; }

 private:
  std::optional<std::int64_t> lost_after_;
  std::vector<double> losses_;
  std::vector<std::pair<std::int64_t, int>> recoveries_;
};

/// One rank after the other is lost, each after its step.
struct Loss {
  int rank;
  std::int64_t after;
};

/// Collective. The communicators of those that are left after each loss; a rank that is lost has
/// others in place of the later ones.
std::vector<Communicator> survivors_of(const std::vector<Loss>& losses, const Communicator& ranks) {
  std::vector<Communicator> left;
  std::vector<bool> lives(static_cast<std::size_t>(ranks.size()), true);
  for (const Loss& loss : losses) {
    lives[static_cast<std::size_t>(loss.rank)] = false;
    left.push_back(ranks.split(lives[static_cast<std::size_t>(ranks.rank())] ? 0 : 1));
  }
  return left;
}

/// Collective. Trains with the losses. Returns what this rank was told.
Journal train(const TrainOptions& options, const std::vector<Loss>& losses,
              const Communicator& ranks) {
  const std::vector<Communicator> left = survivors_of(losses, ranks);
  std::optional<std::int64_t> own;
  for (const Loss& loss : losses) {
    own = loss.rank == ranks.rank() ? loss.after : own;
  }
  Journal journal(own);
  std::size_t recoveries = 0;
  const auto recover = [&](const CommError&) { return left.at(recoveries++); };
  if (own) {
    EXPECT_THROW(Trainer(options, ranks.split(0)).run(journal, recover), Lost);
  } else {
    Trainer(options, ranks.split(0)).run(journal, recover);
  }
  return journal;
}

bool is_lost(const std::vector<Loss>& losses, int rank) {
  return std::ranges::any_of(losses, [&](const Loss& loss) { return loss.rank == rank; });
}

/// The same by runs of that many ranks, each resumed from the checkpoint of the one before.
std::vector<double> train_in_parts(TrainOptions options, const std::vector<Loss>& losses,
                                   const TrainingDirectory& directory, const Communicator& ranks) {
  const std::vector<Communicator> left = survivors_of(losses, ranks);
  const std::int64_t steps = *options.steps;
  const std::filesystem::path last = options.save;
  std::vector<double> all;
  for (std::size_t part = 0; part <= losses.size(); ++part) {
    if (part > 0 && is_lost({losses.begin(), losses.begin() + static_cast<std::ptrdiff_t>(part)},
                            ranks.rank())) {
      break;
    }
    const bool ends = part == losses.size();
    options.steps = ends ? steps : losses[part].after;
    options.save = ends ? last : directory / ("part" + std::to_string(part));
    const std::vector<double> some = losses_of(options, part == 0 ? ranks : left[part - 1]);
    all.insert(all.end(), some.begin(), some.end());
    options.resume = options.save;
  }
  return all;
}

/// Bit for bit: the losses, and the last checkpoint.
void expect_like_fewer_ranks(TrainOptions options, const std::vector<Loss>& losses,
                             const TrainingDirectory& directory, const Communicator& ranks) {
  options.save = directory / "whole";
  const Journal journal = train(options, losses, ranks);
  options.save = directory / "parts";
  const std::vector<double> expected = train_in_parts(options, losses, directory, ranks);
  EXPECT_EQ(journal.losses(), expected);
  barrier(ranks);
  EXPECT_EQ(read_bytes(directory / "whole"), read_bytes(directory / "parts"));
  if (!is_lost(losses, ranks.rank())) {
    std::vector<std::pair<std::int64_t, int>> recoveries;
    for (const Loss& loss : losses) {
      recoveries.emplace_back(loss.after, ranks.size() - 1 - static_cast<int>(recoveries.size()));
    }
    EXPECT_EQ(journal.recoveries(), recoveries);
  }
  barrier(ranks);
}

TEST(Recovery, IsARunOfFewerRanksFromThereOn) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(12);
    options.dropout = 0.2;
    if (ranks.size() == 1) {
      return;
    }
    for (const int rank : {0, ranks.size() - 1}) {
      for (const Norm norm : {Norm::sync, Norm::none}) {
        SCOPED_TRACE(to_string(norm));
        options.norm = norm;
        expect_like_fewer_ranks(options, {{rank, 7}}, directory, ranks);
      }
    }
  });
}

TEST(Recovery, FromOneLossAfterTheOther) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    if (ranks.size() > 2) {
      expect_like_fewer_ranks(directory.options(12), {{ranks.size() - 1, 3}, {0, 8}}, directory,
                              ranks);
    }
  });
}

/// After the step that ends an epoch, all that are left wait for the lost one to save it.
TEST(Recovery, TakesAStepAgainWhoseCheckpointIsMissing) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(8);
    options.save = directory / "run";
    if (ranks.size() == 1) {
      return;
    }
    const Journal journal = train(options, {{0, 5}}, ranks);
    barrier(ranks);
    if (ranks.rank() != 0) {
      EXPECT_THAT(journal.recoveries(), ElementsAre(std::pair(4, ranks.size() - 1)));
      EXPECT_EQ(journal.losses().size(), 9);
    }
    EXPECT_EQ(load_safetensors(options.save).metadata.at("step"), "8");
    barrier(ranks);
  });
}

TEST(Recovery, LeavesEachRankItsOwnStatistics) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    TrainOptions options = directory.options(8);
    options.norm = Norm::local;
    options.save = directory / "run";
    if (ranks.size() < 3) {
      return;
    }
    train(options, {{0, 7}}, ranks);
    barrier(ranks);
    const StateDict state = load_safetensors(options.save);
    EXPECT_EQ(state.metadata.at("ranks"), std::to_string(ranks.size() - 1));
    EXPECT_NE(state.tensors.at("bn1.running_mean"), state.tensors.at("rank1.bn1.running_mean"));
    barrier(ranks);
  });
}

TEST(Recovery, IsNotTriedUnlessAskedFor) {
  on_ranks([](const Communicator& ranks) {
    const TrainingDirectory directory(ranks);
    const TrainOptions options = directory.options(8);
    Journal journal(ranks.rank() == 0 ? std::optional<std::int64_t>(4) : std::nullopt);
    const auto run = [&] { Trainer(options, ranks.split(0)).run(journal); };
    if (ranks.rank() == 0) {
      EXPECT_THROW(run(), Lost);
    } else {
      EXPECT_THROW(run(), CommError);
    }
    barrier(ranks);
  });
}

Model small_network() {
  TrainOptions options;
  options.network = Network::mlp;
  return build_network(options, {8, 8, 1}, 10, Communicator::self());
}

/// What a rank alone trains.
struct Own {
  Model model = small_network();
  Sgd sgd{model.parameters(), 0.9};
  RunningStatistics statistics = RunningStatistics::shared;

  Trained trained() { return {model, sgd, statistics}; }
  float& value() { return model.parameters()[0]->value[0]; }
};

TEST(Snapshots, GoBackToTheStepThatAllHaveDone) {
  on_ranks([](const Communicator& ranks) {
    Own own;
    Snapshots snapshots;
    own.value() = 7 + static_cast<float>(ranks.rank());
    snapshots.keep(own.trained(), 3);
    if (ranks.rank() == 0) {
      own.value() = 1;
      snapshots.keep(own.trained(), 4);
    }
    own.value() = -1;
    const std::int64_t expected = ranks.size() > 1 ? 3 : 4;
    for (int again = 0; again < 2; ++again) {
      EXPECT_EQ(snapshots.restore(own.trained(), ranks), expected);
      EXPECT_EQ(own.value(), ranks.size() > 1 ? 7 : 1);
    }
  });
}

}  // namespace
}  // namespace syncbn::trainer
