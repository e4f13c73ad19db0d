// SPDX-License-Identifier: Apache-2.0

// Sums in fixed point against the reference's.
//
// A term is rounded to a whole number of units. Where a product is not rounded before, as with
// fused multiplication and addition, kernels and reference have the same integers; other targets
// round it by 2^-53, after which it may be the unit next to it: n (2^-53 largest + unit) in all.

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "kernels/problem.hpp"
#include "kernels/tallies.hpp"

namespace syncbn::test {
namespace {

const kernels::Kernels& cpu = kernels::select(Backend::cpu);
const kernels::Kernels& reference = kernels::select(Backend::reference);

constexpr int first_window = 10;
constexpr int second_window = 14;

Tallies in_windows(const Problem& problem, int shift = 0) {
  return {problem.x.shape().c, first_window + shift, second_window + shift};
}

template <class Body>
void on_ranges(const Problem& problem, std::int64_t ranges, Body body) {
  kernels::Scratch scratch;
  const std::int64_t channels = problem.x.shape().c;
  for (std::int64_t k = 0; k < ranges; ++k) {
    const kernels::ChannelRange range{channels * k / ranges, channels * (k + 1) / ranges};
    if (range.size() > 0) {
      body(range, kernels::Run{.scratch = scratch});
    }
  }
}

kernels::ForwardSums forward_arguments(const Problem& problem) {
  return {problem.x.view(), problem.weights(), problem.pivot.data(), nullptr};
}
kernels::BackwardSums backward_arguments(const Problem& problem, bool relu) {
  return {problem.upstream(relu, true), nullptr};
}

/// The tallies of a pass.
struct Outcome {
  Tallies tallies;
  bool backward;

  std::int64_t channels() const { return tallies.channels(); }
  channels::OwnTally operator[](std::int64_t c) const { return tallies.of(c, backward); }
};

Outcome forward(const kernels::Kernels& kernels, const Problem& problem, std::int64_t ranges = 1,
                int shift = 0) {
  Outcome outcome{in_windows(problem, shift), false};
  on_ranges(problem, ranges, [&](const auto& range, const auto& run) {
    kernels.forward_in_fixed_point(forward_arguments(problem), range, outcome.tallies.to(), run);
  });
  return outcome;
}

Outcome backward(const kernels::Kernels& kernels, const Problem& problem, bool relu,
                 std::int64_t ranges = 1) {
  Outcome outcome{in_windows(problem), true};
  on_ranges(problem, ranges, [&](const auto& range, const auto& run) {
    kernels.backward_in_fixed_point(backward_arguments(problem, relu), range, outcome.tallies.to(),
                                    run);
  });
  return outcome;
}

long double to_units(const channels::Integer& integer) {
  return static_cast<long double>(integer.high) * 0x1p32L + static_cast<long double>(integer.low);
}

/// In units of 2^-50 of the window. The difference of two, which the halves' would not show.
long double difference(const channels::FixedPointSum& a, const channels::FixedPointSum& b) {
  return (to_units(a.coarse) - to_units(b.coarse)) +
         (to_units(a.fine) - to_units(b.fine)) * 0x1p-50L;
}

void expect_near(const Outcome& got, const Outcome& expected, double terms, DType dtype) {
  // Of a window, 2^50 units, terms fill some share; the unit is the finer one for f64.
  const double unit = dtype == DType::f64 ? 0x1p-50 : 1;
  const double tolerance = terms * (0x1p-53 * 0x1p50 + unit);
  for (std::int64_t c = 0; c < expected.channels(); ++c) {
    ASSERT_FALSE(expected[c].outside) << "channel " << c << ", window chosen too small";
    ASSERT_FALSE(got[c].outside) << "channel " << c;
    const auto first = static_cast<double>(difference(got[c].first, expected[c].first));
    const auto second = static_cast<double>(difference(got[c].second, expected[c].second));
    ASSERT_NEAR(first, 0, tolerance) << "channel " << c;
    ASSERT_NEAR(second, 0, tolerance) << "channel " << c;
  }
}

bool same(const channels::FixedPointSum& a, const channels::FixedPointSum& b) {
  return difference(a, b) == 0;
}

class FixedPointTest : public testing::TestWithParam<TypeAndLayout> {
 protected:
  DType dtype() const { return std::get<DType>(GetParam()); }

  template <class Body>
  void on_problems(Body body) {
    for (const Shape& shape : awkward_shapes()) {
      SCOPED_TRACE(to_text(shape));
      Problem problem(dtype(), shape, std::get<Layout>(GetParam()));
      const auto terms = static_cast<double>(shape.per_channel());
      body(problem, terms);
      problem.set_weights();
      body(problem, terms);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(, FixedPointTest, testing::ValuesIn(types_and_layouts()),
                         [](const auto& of) { return name_of(of.param); });

TEST_P(FixedPointTest, SumsAgreeWithTheReference) {
  on_problems([this](const Problem& problem, double terms) {
    const Outcome expected = forward(reference, problem);
    on_every_target([&] { expect_near(forward(cpu, problem), expected, terms, dtype()); });
    for (const bool relu : {false, true}) {
      const Outcome expected_backward = backward(reference, problem, relu);
      on_every_target([&] {
        const Outcome got = backward(cpu, problem, relu);
        expect_near(got, expected_backward, terms, dtype());
        for (std::int64_t c = 0; c < got.channels(); ++c) {
          EXPECT_EQ(got[c].largest, expected_backward[c].largest);
        }
      });
    }
  });
}

// And so are the sums that the default adds up, to its rounding.
TEST_P(FixedPointTest, SumsAreThoseOfTheDefault) {
  if (size_of(dtype()) == 2) {
    return;  // whose terms are of float
  }
  on_problems([this](const Problem& problem, double terms) {
    const Sums expected = forward_sums(reference, problem);
    const Outcome got = forward(cpu, problem);
    const int bits = dtype() == DType::f64 ? 53 : 51;
    for (std::int64_t i = 0; i < got.channels(); ++i) {
      const auto c = static_cast<std::size_t>(i);
      const channels::FixedPointSum zero;
      const auto first =
          static_cast<double>(difference(got[i].first, zero) * std::exp2(first_window - 50.0L));
      const auto second =
          static_cast<double>(difference(got[i].second, zero) * std::exp2(second_window - 50.0L));
      ASSERT_NEAR(first, expected.first[c], terms * std::exp2(first_window - bits));
      ASSERT_NEAR(second, expected.second[c], terms * std::exp2(second_window - bits));
    }
  });
}

// To the bit, on every target: few channels last, which lie abreast, too.
TEST_P(FixedPointTest, SumsDoNotDependOnRanges) {
  on_problems([](const Problem& problem, double) {
    on_every_target([&] {
      const Outcome whole = forward(cpu, problem);
      const Outcome cut = forward(cpu, problem, 3);
      const Outcome whole_backward = backward(cpu, problem, true);
      const Outcome cut_backward = backward(cpu, problem, true, 3);
      for (std::int64_t c = 0; c < whole.channels(); ++c) {
        EXPECT_TRUE(same(whole[c].first, cut[c].first) && same(whole[c].second, cut[c].second));
        EXPECT_TRUE(same(whole_backward[c].first, cut_backward[c].first) &&
                    same(whole_backward[c].second, cut_backward[c].second));
      }
    });
  });
}

TEST_P(FixedPointTest, MagnitudesAreTheReferences) {
  on_problems([](const Problem& problem, double) {
    const auto magnitudes = [&](const kernels::Kernels& kernels, bool of_gradients) {
      const Tallies tallies = in_windows(problem);
      on_ranges(problem, 1, [&](const auto& range, const auto& run) {
        if (of_gradients) {
          kernels.backward_magnitudes(backward_arguments(problem, true), range, tallies.to(), run);
        } else {
          kernels.forward_magnitudes(forward_arguments(problem), range, tallies.to(), run);
        }
      });
      std::vector<double> values;
      for (std::int64_t c = 0; c < tallies.channels(); ++c) {
        for (const int field : {0, 1}) {
          values.push_back(tallies.magnitude(field, c));
          values.push_back(tallies.special(field, c));
        }
      }
      return values;
    };
    for (const bool of_gradients : {false, true}) {
      const std::vector<double> expected = magnitudes(reference, of_gradients);
      on_every_target([&] { EXPECT_EQ(magnitudes(cpu, of_gradients), expected); });
    }
  });
}

// Every place of a tensor is looked at, whatever is there.
TEST_P(FixedPointTest, ATermOutsideIsNoticedInItsChannelAlone) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const double value : {0x1p13, -0x1p13, infinity, -infinity, std::nan("")}) {
    for (const Shape& shape : {Shape{3, 31, 4}, Shape{7, 5, 65}, Shape{2, 1, 3}}) {
      Problem problem(dtype(), shape, std::get<Layout>(GetParam()));
      const std::int64_t n = shape.n - 1, c = shape.c / 2, s = shape.s - 1;
      problem.x.set(n, c, s, value);
      on_every_target([&] {
        const Outcome got = forward(cpu, problem);
        for (std::int64_t i = 0; i < shape.c; ++i) {
          EXPECT_EQ(got[i].outside, i == c) << value;
        }
      });
      problem.x.set(n, c, s, 0);
      problem.dy.set(n, c, s, value);
      on_every_target([&] {
        const Outcome got = backward(cpu, problem, false);
        for (std::int64_t i = 0; i < shape.c; ++i) {
          EXPECT_EQ(got[i].outside, i == c) << value;
        }
      });
    }
  }
}

// Windows that most terms just fill: more than 64 bits hold of them go through their halves.
TEST(FixedPointSums, HoldMoreThan64Bits) {
  constexpr std::int64_t size = 1 << 17;
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    Problem problem(DType::f32, {size / 64, 3, 64}, layout);
    for_each(problem.x.shape(), [&](auto n, auto c, auto s) { problem.x.set(n, c, s, 127); });
    problem.pivot = {0, 0, 0};
    on_every_target([&] {
      const Outcome got = forward(cpu, problem, 1, -3);  // windows of 2^7 and 2^11
      EXPECT_TRUE(got[0].outside) << "127^2 is above 2^11";
      const Tallies fits(3, 7, 14);
      kernels::Scratch scratch;
      cpu.forward_in_fixed_point(forward_arguments(problem), {0, 3}, fits.to(), {scratch});
      for (std::int64_t c = 0; c < 3; ++c) {
        const channels::OwnTally tally = fits.of(c, false);
        EXPECT_FALSE(tally.outside);
        EXPECT_EQ(to_units(tally.first.coarse), 127.0L * size * 0x1p43L);
        EXPECT_EQ(to_units(tally.second.coarse), 16129.0L * size * 0x1p36L);
      }
    });
  }
}

}  // namespace
}  // namespace syncbn::test
