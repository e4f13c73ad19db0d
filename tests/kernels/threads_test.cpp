// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include <omp.h>

#include <gtest/gtest.h>

#include "kernels/cpu/partition.hpp"
#include "kernels/problem.hpp"
#include "kernels/tallies.hpp"

namespace syncbn::test {
namespace {

const kernels::Kernels& cpu = kernels::select(Backend::cpu);

bool same_bits(const Tensor& a, const Tensor& b) {
  const auto bytes = static_cast<std::size_t>(a.shape().size()) * size_of(a.dtype());
  return std::memcmp(a.view().data(), b.view().data(), bytes) == 0;
}

std::vector<std::int64_t> in_fixed_point(const Problem& of) {
  const Tallies tallies(of.x.shape().c, 10, 14);
  kernels::Scratch scratch;
  std::vector<std::int64_t> integers;
  const auto take = [&](bool backward) {
    for (std::int64_t c = 0; c < tallies.channels(); ++c) {
      const channels::OwnTally tally = tallies.of(c, backward);
      EXPECT_FALSE(tally.outside);
      for (const channels::Integer& sum :
           {tally.first.coarse, tally.first.fine, tally.second.coarse, tally.second.fine}) {
        integers.push_back(channels::carried(sum).high);
        integers.push_back(channels::carried(sum).low);
      }
    }
  };
  cpu.forward_in_fixed_point({of.x.view(), of.weights(), of.pivot.data(), nullptr}, of.channels(),
                             tallies.to(), {scratch});
  take(false);
  cpu.backward_in_fixed_point({of.upstream(true, false), nullptr}, of.channels(), tallies.to(),
                              {scratch});
  take(true);
  return integers;
}

struct Results {
  Sums forward, backward;
  std::vector<std::int64_t> integers;  ///< of sums in fixed point
  Tensor y;
  Gradients gradients;

  explicit Results(const Problem& of)
      : forward(forward_sums(cpu, of)),
        backward(backward_sums(cpu, of, true, false)),
        integers(in_fixed_point(of)),
        y(normalize(cpu, of, true, true)),
        gradients(input_gradient(cpu, of, true, false, true)) {}
};

void expect_same_bits(const Results& a, const Results& b) {
  EXPECT_EQ(a.forward.first, b.forward.first);
  EXPECT_EQ(a.forward.second, b.forward.second);
  EXPECT_EQ(a.backward.first, b.backward.first);
  EXPECT_EQ(a.backward.second, b.backward.second);
  EXPECT_EQ(a.integers, b.integers);
  EXPECT_TRUE(same_bits(a.y, b.y));
  EXPECT_TRUE(same_bits(a.gradients.dx, b.gradients.dx));
  EXPECT_TRUE(same_bits(a.gradients.dresidual, b.gradients.dresidual));
}

Results with_threads(int threads, const Problem& of) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  Results results(of);
  omp_set_num_threads(before);
  return results;
}

class ThreadsTest : public testing::TestWithParam<TypeAndLayout> {};
INSTANTIATE_TEST_SUITE_P(, ThreadsTest, testing::ValuesIn(types_and_layouts()),
                         [](const auto& of) { return name_of(of.param); });

TEST_P(ThreadsTest, ResultsDoNotDependOnTheirNumber) {
  const auto [dtype, layout] = GetParam();
  for (const Shape shape : {Shape{61, 37, 120}, Shape{1, 3, 70001}, Shape{700, 300, 1}}) {
    SCOPED_TRACE(to_text(shape));
    const Problem of(dtype, shape, layout);
    const Results one = with_threads(1, of);
    for (const int threads : {2, 3, 5}) {
      SCOPED_TRACE(threads);
      expect_same_bits(with_threads(threads, of), one);
    }
  }
}

// The shapes above do fall into several parts.
TEST(PartsTest, ThereIsSomethingToCombine) {
  using kernels::cpu::Columns;
  using kernels::cpu::Planes;
  constexpr auto sums = kernels::cpu::Purpose::sums;
  EXPECT_GT(Planes({61, 37, 120}, {0, 37}, sums).parts(), 1);
  EXPECT_GT(Planes({1, 3, 70001}, {0, 3}, sums).parts(), 1);
  EXPECT_GT(Columns({61 * 120, 37, 1}, {0, 37}, sums).parts(), 1);
  EXPECT_GT(Columns({70001, 3, 1}, {0, 3}, sums).parts(), 1);
  EXPECT_GT(Columns({700, 300, 1}, {0, 300}, sums).parts(), 1);
}

}  // namespace
}  // namespace syncbn::test
