// SPDX-License-Identifier: Apache-2.0

// Results do not depend on how the calling thread computes: whether it flushes subnormal numbers to
// zero, or how it rounds. Threads and ranks may be set differently.

#include <algorithm>
#include <cfenv>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include <omp.h>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/phases.hpp"

#include "bn/exact_steps.hpp"
#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Batch;
using test::count_differences;
using test::Results;
using test::Setting;
using test::Shard;
using test::Tensor;

/// Makes this thread round up, and where it can flush subnormal numbers to zero, until it ends.
class OddSettings {
 public:
  OddSettings() {
    std::fesetround(FE_UPWARD);
    flush(true);
  }
  ~OddSettings() {
    std::fesetround(FE_TONEAREST);
    flush(false);
  }
  OddSettings(const OddSettings&) = delete;
  OddSettings& operator=(const OddSettings&) = delete;

 private:
#if defined(__SSE__)
  static void flush(bool on) {
    constexpr unsigned both = 0x8040;  // flush to zero, denormals are zeros
    _mm_setcsr((_mm_getcsr() & ~both) | (on ? both : 0));
  }
#elif defined(__aarch64__)
  static void flush(bool on) {
    std::uint64_t control = 0;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    control = (control & ~(std::uint64_t{1} << 24)) | std::uint64_t{on} << 24;
    asm volatile("msr fpcr, %0" : : "r"(control));
  }
#else
  static void flush(bool) {}
#endif
};

/// Describes a tensor larger than what one thread does alone.
Setting subnormal_setting(Reproducibility reproducibility) {
  return {.shape = {16, 4, 2000}, .reproducibility = reproducibility};
}

std::vector<Batch> subnormal_batches(const Setting& setting) {
  std::vector<Batch> batches;
  for (std::uint64_t step = 0; step < 3; ++step) {
    const auto normal = [&](std::uint64_t what, double mean, double spread) {
      return Tensor::normal(setting.dtype, setting.shape, setting.layout, 10 * what + step, mean,
                            spread);
    };
    batches.push_back(
        {.x = normal(1, 0, 1e-38), .dy = normal(2, 0, 1e-38), .residual = normal(3, 0, 1)});
  }
  return batches;
}

Results results_of(const Setting& setting, const std::vector<Batch>& batches) {
  return test::train(Communicator::self(), setting, batches, {0, setting.shape.n});
}

TEST(Arithmetic, DoesNotDependOnTheCallersWithAnyThreads) {
  const int before = omp_get_max_threads();
  for (const Reproducibility mode : {Reproducibility::exact, Reproducibility::rank_consistent}) {
    const Setting setting = subnormal_setting(mode);
    const std::vector<Batch> batches = subnormal_batches(setting);
    omp_set_num_threads(2);
    const Results expected = results_of(setting, batches);
    for (const int threads : {1, 2}) {
      omp_set_num_threads(threads);
      const Results got = [&] {
        const OddSettings odd;
        return results_of(setting, batches);
      }();
      EXPECT_EQ(count_differences(got, expected, {0, setting.shape.n}), 0) << threads << " threads";
    }
  }
  omp_set_num_threads(before);
}

TEST(Arithmetic, MayBeSetOnOneRankAlone) {
  const Setting setting = subnormal_setting(Reproducibility::exact);
  const std::vector<Batch> batches = subnormal_batches(setting);
  const Results whole = results_of(setting, batches);
  test::on_ranks([&](const Communicator& group) {
    const Shard shard = test::shard_of(0, setting.shape.n, group.rank(), group.size());
    const auto part = [&] { return test::train(group, setting, batches, shard); };
    const Results own = group.rank() == 0 ? [&] {
      const OddSettings odd;
      return part();
    }()
                                          : part();
    EXPECT_EQ(count_differences(own, whole, shard), 0);
  });
}

TEST(Arithmetic, OfTheCallerIsLeftAsItWas) {
  const Tensor x = Tensor::normal(DType::f32, {4, 2, 3}, Layout::channels_first, 1);
  Tensor y = x;
  ForwardRecord record;
  BatchNorm layer(2, Communicator::self());
  const OddSettings odd;
  volatile double tiny = std::numeric_limits<double>::denorm_min();
  const double before = tiny * 1.0;
  layer.forward(x.view(), y.view(), record);
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  const double after = tiny * 1.0;
  EXPECT_EQ(std::memcmp(&before, &after, sizeof(double)), 0);
}

TEST(Arithmetic, OfPhasesIsTheDefaultToo) {
  const Tensor x = Tensor::normal(DType::f32, {16, 2, 50}, Layout::channels_first, 1, 0, 1e-38);
  const std::vector<double> pivot(2, static_cast<double>(0.3e-38F));
  const auto statistics = [&] {
    std::vector<double> sums(sums_length(2));
    forward_sums(x.view(), pivot, sums);
    Statistics result;
    finalize(sums, pivot, 1e-80, result);
    return std::vector{sums[0],        sums[1],        sums[2],       sums[3],
                       result.mean[0], result.mean[1], result.var[0], result.invstd[0]};
  };
  const std::vector<double> expected = statistics();
  const std::vector<double> got = [&] {
    const OddSettings odd;
    return statistics();
  }();
  EXPECT_EQ(std::memcmp(got.data(), expected.data(), sizeof(double) * got.size()), 0);
}

TEST(Arithmetic, OfLoadedStatesIsTheDefaultToo) {
  BatchNorm layer(1, Communicator::self());
  StateDict state;
  layer.save_state(state);
  const float subnormal = 1e-38F;
  StateTensor& mean = state.tensors["running_mean"];
  mean.dtype = StateDType::f32;
  mean.bytes.resize(sizeof(float));
  std::memcpy(mean.bytes.data(), &subnormal, sizeof(float));
  {
    const OddSettings odd;
    layer.load_state(state);
  }
  EXPECT_EQ(layer.running_mean()[0], static_cast<double>(subnormal));
}

}  // namespace
}  // namespace syncbn
