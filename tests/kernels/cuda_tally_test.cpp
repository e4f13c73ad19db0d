// SPDX-License-Identifier: Apache-2.0

// The device's tallies, on the host: in whatever order threads and blocks come, the integers are
// those of the CPU's sums in fixed point, and the magnitudes those of the CPU.

#include <bit>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/exact_messages.hpp"
#include "kernels/cuda/exact_terms.hpp"
#include "kernels/cuda_on_host.hpp"
#include "kernels/problem.hpp"

namespace syncbn::test {
namespace {

namespace cuda = kernels::cuda;

const kernels::Kernels& cpu = kernels::select(Backend::cpu);

constexpr int first_window = 10;
constexpr int second_window = 14;

/// What tallies are written to. Of the channels every third is not wanted.
struct Memory {
  std::vector<int> first_windows, second_windows, wanted;
  std::vector<std::uint64_t> tallies, magnitudes;

  explicit Memory(std::size_t channels)
      : first_windows(channels, first_window),
        second_windows(channels, second_window),
        tallies(cuda::tally_words * channels),
        magnitudes(cuda::magnitude_words * channels) {
    for (std::size_t c = 0; c < channels; ++c) {
      wanted.push_back(c % 3 == 2 ? 0 : 1);
    }
  }

  cuda::TalliedPass pass(bool backward, DType dtype) {
    return {.of = {.channels = static_cast<std::int64_t>(wanted.size()),
                   .first_window = first_windows.data(),
                   .second_window = second_windows.data(),
                   .wanted = wanted.data(),
                   .tallies = tallies.data(),
                   .magnitudes = magnitudes.data(),
                   .count = nullptr,
                   .first_special = nullptr,
                   .second_special = nullptr,
                   .gradient_exponent = nullptr,
                   .var = nullptr},
            .backward = backward,
            .fine = dtype == DType::f64};
  }
};

void expect_equal(kernels::Integer a, kernels::Integer b) {
  a = kernels::carried(a);
  b = kernels::carried(b);
  EXPECT_EQ(a.high, b.high);
  EXPECT_EQ(a.low, b.low);
}

struct Expected {
  std::vector<kernels::FixedPointSum> first, second;
  std::vector<double> largest;
  std::vector<std::uint8_t> outside;
  std::vector<double> magnitudes, products, special, special_products;

  explicit Expected(std::size_t channels)
      : first(channels),
        second(channels),
        largest(channels),
        outside(channels),
        magnitudes(channels),
        products(channels),
        special(channels),
        special_products(channels) {}

  kernels::FixedPoint fixed_point(Memory& memory, bool backward) {
    return {memory.first_windows.data(),
            memory.second_windows.data(),
            first.data(),
            second.data(),
            backward ? largest.data() : nullptr,
            outside.data()};
  }
  kernels::Magnitudes to_magnitudes() {
    return {magnitudes.data(), products.data(), special.data(), special_products.data()};
  }
};

void compare(Memory& memory, const cuda::TalliedPass& pass, const Expected& expected) {
  for (std::size_t c = 0; c < expected.first.size(); ++c) {
    SCOPED_TRACE(testing::Message() << "channel " << c);
    const auto channels = static_cast<std::int64_t>(expected.first.size());
    const auto word = [&](int k) {
      return memory.magnitudes[static_cast<std::size_t>(k * channels) + c];
    };
    const cuda::OwnTally own(pass, static_cast<std::int64_t>(c));
    if (memory.wanted[c] == 0) {
      EXPECT_EQ(word(0) | word(1) | word(2), 0U);
      EXPECT_EQ(own.largest, 0);
      continue;
    }
    EXPECT_EQ(own.outside, expected.outside[c] != 0);
    if (!own.outside) {
      expect_equal(own.first.coarse, expected.first[c].coarse);
      expect_equal(own.second.coarse, expected.second[c].coarse);
      expect_equal(own.first.fine, expected.first[c].fine);
      expect_equal(own.second.fine, expected.second[c].fine);
      EXPECT_EQ(own.largest, expected.largest[c]);
    }
    EXPECT_EQ(std::bit_cast<double>(word(0)), expected.magnitudes[c]);
    EXPECT_EQ(std::bit_cast<double>(word(1)), expected.products[c]);
    EXPECT_EQ(cuda::special_of(word(2), 0), expected.special[c]);
    EXPECT_EQ(cuda::special_of(word(2), 1), expected.special_products[c]);
  }
}

void check_forward(const Problem& problem, const kernels::Run& run) {
  const auto channels = static_cast<std::size_t>(problem.x.shape().c);
  for (const Order order : {Order::forward, Order::backward}) {
    Memory memory(channels);
    Expected expected(channels);
    const kernels::ForwardSums sums{problem.x.view(),  problem.channels(),
                                    problem.weights(), problem.pivot.data(),
                                    nullptr,           nullptr};
    cpu.forward_in_fixed_point(sums, expected.fixed_point(memory, false), run);
    cpu.forward_magnitudes(sums, expected.to_magnitudes(), run);
    const cuda::ForwardTally tally{memory.pass(false, problem.x.dtype()), problem.x.view(),
                                   problem.weights(), problem.pivot.data()};
    cuda::run_tally(tally, OnHost{order});
    cuda::run_tally_magnitudes(tally, OnHost{order});
    compare(memory, tally.pass, expected);
  }
}

void check_backward(const Problem& problem, const kernels::Run& run, bool relu) {
  const auto channels = static_cast<std::size_t>(problem.x.shape().c);
  for (const Order order : {Order::forward, Order::backward}) {
    Memory memory(channels);
    Expected expected(channels);
    const kernels::BackwardSums sums{problem.upstream(relu, relu), problem.channels(), nullptr,
                                     nullptr};
    cpu.backward_in_fixed_point(sums, expected.fixed_point(memory, true), run);
    cpu.backward_magnitudes(sums, expected.to_magnitudes(), run);
    const cuda::BackwardTally tally{memory.pass(true, problem.x.dtype()),
                                    problem.upstream(relu, relu)};
    cuda::run_tally(tally, OnHost{order});
    cuda::run_tally_magnitudes(tally, OnHost{order});
    compare(memory, tally.pass, expected);
  }
}

class CudaTallyTest : public testing::TestWithParam<TypeAndLayout> {
 protected:
  template <class Body>
  void for_problems(Body body) {
    const auto [dtype, layout] = GetParam();
    for (const Shape& shape : awkward_shapes()) {
      for (const bool weighted : {false, true}) {
        SCOPED_TRACE(to_text(shape) + (weighted ? ", weighted" : ""));
        Problem problem(dtype, shape, layout);
        if (weighted) {
          problem.set_weights();
        }
        body(problem);
      }
    }
  }

  kernels::Scratch scratch_;
  kernels::Run run_{.scratch = scratch_};
};

TEST_P(CudaTallyTest, DifferencesAreTheCpus) {
  for_problems([&](const Problem& problem) { check_forward(problem, run_); });
}

TEST_P(CudaTallyTest, GradientsAreTheCpus) {
  for_problems([&](const Problem& problem) {
    check_backward(problem, run_, false);
    check_backward(problem, run_, true);
  });
}

TEST_P(CudaTallyTest, SeesTermsOutsideOfTheirWindows) {
  const auto [dtype, layout] = GetParam();
  for (const double value : {30.0, 200.0, 2000.0}) {
    Problem problem(dtype, {3, 5, 40}, layout);
    problem.x.set(1, 3, 7, value);
    problem.dy.set(1, 1, 7, -value);
    check_forward(problem, run_);
    check_backward(problem, run_, false);
  }
}

INSTANTIATE_TEST_SUITE_P(TypesAndLayouts, CudaTallyTest, testing::ValuesIn(types_and_layouts()),
                         [](const auto& test) { return name_of(test.param); });

}  // namespace
}  // namespace syncbn::test
