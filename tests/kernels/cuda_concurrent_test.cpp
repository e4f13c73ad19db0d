// SPDX-License-Identifier: Apache-2.0

// The kernels for CUDA devices give the same bits with their threads at once as one after the
// other.

#include "kernels/cuda_concurrent.hpp"

#include <cmath>
#include <optional>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/atomics.hpp"
#include "kernels/cuda/backward_sums.hpp"
#include "kernels/cuda/exact_terms.hpp"
#include "kernels/cuda/finalize.hpp"
#include "kernels/cuda/forward_sums.hpp"
#include "kernels/cuda/input_gradient.hpp"
#include "kernels/cuda/normalize.hpp"
#include "kernels/cuda/weight_count.hpp"
#include "kernels/cuda_checks.hpp"
#include "kernels/cuda_on_host.hpp"
#include "kernels/tallies.hpp"
#include "support/planted_fault.hpp"
#include "support/seed.hpp"

namespace syncbn::test {
namespace {

namespace cuda = kernels::cuda;

constexpr kernels::Kernels concurrent{
    .forward_sums =
        [](const kernels::ForwardSums& of, const kernels::ChannelRange&, const kernels::Run&) {
          std::vector<std::byte> workspace = workspace_for(of.x);
          cuda::run_forward_sums(of, workspace.data(), ConcurrentHost{seed()});
        },
    .normalize = [](const kernels::Normalize& of, const kernels::ChannelRange&,
                    const kernels::Run&) { cuda::run_normalize(of, ConcurrentHost{seed()}); },
    .backward_sums =
        [](const kernels::BackwardSums& of, const kernels::ChannelRange&, const kernels::Run&) {
          std::vector<std::byte> workspace = workspace_for(of.upstream.data);
          cuda::run_backward_sums(of, workspace.data(), ConcurrentHost{seed()});
        },
    .input_gradient =
        [](const kernels::InputGradient& of, const kernels::ChannelRange&, const kernels::Run&) {
          cuda::run_input_gradient(of, ConcurrentHost{seed()});
        },
    .forward_in_fixed_point = nullptr,
    .backward_in_fixed_point = nullptr,
    .forward_magnitudes = nullptr,
    .backward_magnitudes = nullptr,
    .cache_bytes = nullptr,
    .least_channels = nullptr};

// Long planes in several parts; short ones whose rows several groups of threads share; rows for
// several blocks; and tensors whose vectors are cut.
constexpr Shape shapes[] = {{40, 1, 300}, {2, 3, 257}, {33, 5, 49}};

class CudaConcurrentTest : public testing::TestWithParam<TypeAndLayout> {
 protected:
  template <class Body>
  void for_problems(Body body) const {
    const auto [dtype, layout] = GetParam();
    for (const Shape& shape : shapes) {
      SCOPED_TRACE(testing::Message() << to_text(shape) << ", SYNCBN_SEED=" << seed());
      Problem problem(dtype, shape, layout);
      body(problem);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(, CudaConcurrentTest,
                         testing::Values(TypeAndLayout{DType::f32, Layout::channels_first},
                                         TypeAndLayout{DType::bf16, Layout::channels_last}),
                         [](const auto& of) { return name_of(of.param); });

TEST_P(CudaConcurrentTest, PhasesGiveTheBitsOfOneThreadAfterTheOther) {
  for_problems(
      [](const Problem& problem) { expect_same_results(concurrent, cuda_on_host(), problem); });
}

TEST_P(CudaConcurrentTest, TalliesGiveTheIntegersOfOneThreadAfterTheOther) {
  for_problems([](const Problem& problem) {
    const kernels::ForwardSums sums{problem.x.view(), nullptr, problem.pivot.data(), nullptr};
    const Tallies got(problem.x.shape().c, 10, 14), expected(problem.x.shape().c, 10, 14);
    cuda::run_tally(sums, got.to(), ConcurrentHost{seed()});
    cuda::run_tally_magnitudes(sums, got.to(), ConcurrentHost{seed()});
    cuda::run_tally(sums, expected.to(), OnHost{});
    cuda::run_tally_magnitudes(sums, expected.to(), OnHost{});
    for (std::int64_t c = 0; c < got.channels(); ++c) {
      const channels::OwnTally a = got.of(c, false), b = expected.of(c, false);
      EXPECT_EQ(channels::carried(a.first.coarse).low, channels::carried(b.first.coarse).low) << c;
      EXPECT_EQ(channels::carried(a.second.fine).low, channels::carried(b.second.fine).low) << c;
      EXPECT_EQ(a.largest, b.largest) << c;
      EXPECT_EQ(got.magnitude(0, c), expected.magnitude(0, c)) << c;
    }
  });
}

TEST(CudaConcurrent, WeightedSumsGiveTheBitsOfOneThreadAfterTheOther) {
  Problem problem(DType::f32, {9, 5, 49}, Layout::channels_first);
  problem.set_weights();
  const Sums got = forward_sums(concurrent, problem);
  const Sums expected = forward_sums(cuda_on_host(), problem);
  EXPECT_EQ(got.first, expected.first) << "SYNCBN_SEED=" << seed();
  EXPECT_EQ(got.second, expected.second) << "SYNCBN_SEED=" << seed();
}

TEST(CudaConcurrent, WeightsGiveTheCountOfOneThreadAfterTheOther) {
  std::vector<float> weight(5000);
  for (std::size_t i = 0; i < weight.size(); ++i) {
    weight[i] = std::ldexp(1 + static_cast<float>(i % 7), static_cast<int>(i % 90) - 45);
  }
  const auto count = [&](const auto& launch) {
    channels::CountLimbs limbs{};
    cuda::run_count_weights({weight.data(), static_cast<std::int64_t>(weight.size()), limbs.data()},
                            launch);
    return limbs;
  };
  EXPECT_EQ(count(ConcurrentHost{seed()}), count(OnHost{}));
}

constexpr std::int64_t channels_of_state = 700;  // more than threads in the block

TEST(CudaConcurrent, StatisticsAreFinalizedAsByOneThreadAfterTheOther) {
  constexpr auto length = static_cast<std::size_t>(channels_of_state);
  const auto finalize = [](const auto& launch) {
    std::vector<double> sums(2 * length + 1, 9), all(10 * length + 1, 0.5);
    sums.back() = 16;
    const auto array = [&](std::size_t i) { return all.data() + i * length; };
    std::int64_t batches = 3;
    cuda::Finalize arguments{.channels = channels_of_state,
                             .sums = sums.data(),
                             .dtype = DType::f32,
                             .pivot = array(0),
                             .eps = 1e-5,
                             .gamma = {},
                             .beta = {},
                             .out = {array(1), array(2), array(3), array(4), array(5), &all.back()},
                             .running = std::nullopt};
    arguments.running = {
        {array(6), array(7), array(8), array(9)}, &batches, std::optional<double>(0.1)};
    cuda::run_finalize(arguments, launch);
    all.push_back(static_cast<double>(batches));
    return all;
  };
  EXPECT_EQ(finalize(ConcurrentHost{seed()}), finalize(OnHost{}));
}

TEST(CudaConcurrent, AStatesFingerprintIsThatOfOneThreadAfterTheOther) {
  const std::vector<double> values(channels_of_state, 0.3);
  const auto fingerprint = [&](const auto& launch) {
    std::uint64_t print = 1;
    cuda::run_fingerprint(
        {channels_of_state, values.data(), values.data(), values.data(), {}, {}, &print}, launch);
    return print;
  };
  EXPECT_EQ(fingerprint(ConcurrentHost{seed()}), fingerprint(OnHost{}));
}

// --- controls: kernels with a fault
// ---------------------------------------------------------------

/// A kernel whose threads pass on values, in one phase or, as it should be, in two.
struct PassOn {
  static constexpr int threads = 256;
  struct Shared {
    int values[threads];
  };
  bool in_two_phases;
  int* out;

  template <class Block>
  void operator()(const Block& block, Shared& shared) const {
    block.every_thread([&](int thread) {
      shared.values[thread] = thread;
      if (!in_two_phases) {
        out[thread] = shared.values[threads - 1 - thread];
      }
    });
    if (in_two_phases) {
      block.every_thread([&](int thread) { out[thread] = shared.values[threads - 1 - thread]; });
    }
  }
};

/// A kernel whose blocks count in one word, by an atomic operation or without.
struct Count {
  static constexpr int threads = 256;
  struct Shared {};
  bool atomic;
  std::uint64_t* word;

  template <class Block>
  void operator()(const Block& block, Shared&) const {
    block.every_thread([&](int) {
      for (int i = 0; i < 200; ++i) {
        if (atomic) {
          cuda::add_to(word, 1);
        } else {
          auto* const plain = const_cast<volatile std::uint64_t*>(word);
          *plain = *plain + 1;
        }
      }
    });
  }
};

/// A kernel whose blocks add once each to a common word, behind a phase, and not by an atomic
/// operation.
struct AddOfBlocks {
  static constexpr int threads = 256;
  struct Shared {
    std::int64_t values[4][threads];  // as much as kernels have
  };
  std::uint64_t* word;

  template <class Block>
  void operator()(const Block& block, Shared&) const {
    block.every_thread([](int) {});
    block.every_thread([&](int thread) {
      if (thread == 0) {
        *word += 1;
      }
    });
  }
};

/// A kernel whose result is that of the block that came last.
struct LastBlock {
  static constexpr int threads = 256;
  struct Shared {};
  std::int64_t* last;

  template <class Block>
  void operator()(const Block& block, Shared&) const {
    block.every_thread([&](int thread) {
      if (thread == 0) {
        *last = block.index();
      }
    });
  }
};

/// Runs a kernel with several seeds, and returns how many different results there were.
template <class Run>
std::size_t results_of(Run run) {
  std::set<std::uint64_t> results;
  for (std::uint32_t i = 0; i < (under_thread_sanitizer ? 1 : 30); ++i) {
    results.insert(run(ConcurrentHost{seed() + i}));
  }
  return results.size();
}

std::size_t results_of_passing_on(bool in_two_phases) {
  return results_of([&](const ConcurrentHost& launch) {
    std::vector<int> out(PassOn::threads);
    launch(1, PassOn{in_two_phases, out.data()}, "");
    std::uint64_t hash = 0;
    for (const int value : out) {
      hash = hash * 31 + static_cast<std::uint64_t>(value);
    }
    return hash;
  });
}
std::size_t results_of_counting(bool atomic) {
  return results_of([&](const ConcurrentHost& launch) {
    std::uint64_t word = 0;
    launch(6, Count{atomic, &word}, "");
    return word;
  });
}
std::size_t results_of_last_block() {
  return results_of([&](const ConcurrentHost& launch) {
    std::int64_t last = 0;
    launch(16, LastBlock{&last}, "");
    return static_cast<std::uint64_t>(last);
  });
}

TEST(CudaConcurrentControl, AMissingPhaseIsFound) {
  EXPECT_EQ(results_of_passing_on(true), 1);
  expect_race_found([] { return results_of_passing_on(false) > 1; });
}

TEST(CudaConcurrentControl, AnOperationThatIsNotAtomicIsFound) {
  EXPECT_EQ(results_of_counting(true), 1);
  expect_race_found([] { return results_of_counting(false) > 1; });
}

TEST(CudaConcurrentControl, AnAdditionOfOneThreadOfEachBlockIsFound) {
  if (!under_thread_sanitizer) {
    GTEST_SKIP() << "only the thread sanitizer sees it";
  }
  expect_race_found([] {
    std::uint64_t word = 0;
    ConcurrentHost{seed()}(6, AddOfBlocks{&word}, "");
    return word != 6;
  });
}

TEST(CudaConcurrentControl, BlocksThatDependOnTheirOrderAreFound) {
  expect_race_found([] { return results_of_last_block() > 1; });
}

}  // namespace
}  // namespace syncbn::test
