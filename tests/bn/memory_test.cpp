// SPDX-License-Identifier: Apache-2.0
//
// What a call writes must lie apart from what else it is given, or be all of what it may replace;
// and all must be aligned. Each pair is tried at each kind of offset.

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "support/failure.hpp"

namespace syncbn {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr Shape shape{2, 4, 3};
constexpr std::int64_t size = shape.size();
constexpr std::int64_t positions = shape.per_channel();

/// One stretch of memory; `at` counts tensors of the shape from its middle.
class Arena {
 public:
  float* at(double tensors, std::int64_t further = 0) {
    return memory_.data() + size * 10 + static_cast<std::int64_t>(tensors * size) + further;
  }
  TensorView view(double tensors, std::int64_t further = 0) {
    return {at(tensors, further), shape};
  }

 private:
  std::vector<float> memory_ = std::vector<float>(size * 20, 0.5F);
};

enum class Same : std::uint8_t { allowed, refused };

/// `call` is given where, from the start of another tensor of the call, the tensor in question
/// begins.
void expect_apart(const char* pair, Same same, const std::function<void(std::int64_t)>& call,
                  std::int64_t of_written = size, std::int64_t of_other = size) {
  const auto refused = [&](std::int64_t offset) {
    EXPECT_THAT(test::failure_of<InvalidArgument>([&] { call(offset); }), HasSubstr("overlaps"))
        << pair << " at " << offset;
  };
  for (const std::int64_t offset :
       {std::int64_t{1}, of_other - 1, -std::int64_t{1}, 1 - of_written}) {
    refused(offset);
  }
  if (same == Same::allowed) {
    EXPECT_NO_THROW(call(0)) << pair;
  } else {
    refused(0);
  }
  EXPECT_NO_THROW(call(of_other)) << pair;
  EXPECT_NO_THROW(call(-of_written)) << pair;
}

class Memory : public testing::Test {
 protected:
  BatchNorm layer{4, Communicator::self()};
  ForwardRecord record;
  Arena arena;
};

TEST_F(Memory, OfAForwardIsApartOrTheSame) {
  expect_apart("y and x", Same::allowed, [&](std::int64_t offset) {
    layer.forward(arena.view(0), arena.view(0, offset), record);
  });
  expect_apart("y and the residual", Same::allowed, [&](std::int64_t offset) {
    layer.forward(arena.view(5), arena.view(0, offset), record, {.residual = arena.view(0)});
  });
  expect_apart(
      "y and the weight", Same::refused,
      [&](std::int64_t offset) {
        layer.forward(arena.view(5), arena.view(0, offset), record,
                      {.position_weights =
                           PositionWeights(arena.at(0), static_cast<std::size_t>(positions))});
      },
      size, positions);
}

TEST_F(Memory, OfAnInferIsApartOrTheSame) {
  expect_apart("y and x", Same::allowed,
               [&](std::int64_t offset) { layer.infer(arena.view(0), arena.view(0, offset)); });
  expect_apart("y and the residual", Same::allowed, [&](std::int64_t offset) {
    layer.infer(arena.view(5), arena.view(0, offset), {.residual = arena.view(0)});
  });
}

TEST_F(Memory, OfABackwardIsApartOrTheSame) {
  layer.forward(arena.view(5), arena.view(6), record);
  expect_apart("dx and dy", Same::allowed, [&](std::int64_t offset) {
    layer.backward(record, arena.view(5), arena.view(0), arena.view(0, offset));
  });
  expect_apart("dx and x", Same::refused, [&](std::int64_t offset) {
    layer.backward(record, arena.view(0), arena.view(5), arena.view(0, offset));
  });
}

TEST_F(Memory, OfABackwardWithAResidualIsApartOrTheSame) {
  layer.forward(arena.view(5), arena.view(7), record, {.residual = arena.view(6)});
  const TensorView x = arena.view(5), y = arena.view(7), dy = arena.view(8), other = arena.view(-5);
  const auto at = [&](std::int64_t offset) { return arena.view(0, offset); };
  const TensorView here = arena.view(0);
  expect_apart("dx and dy", Same::allowed, [&](std::int64_t offset) {
    layer.backward(record, x, here, at(offset), {.y = y, .dresidual = other});
  });
  expect_apart("dresidual and dy", Same::allowed, [&](std::int64_t offset) {
    layer.backward(record, x, here, other, {.y = y, .dresidual = at(offset)});
  });
  expect_apart("dx and x", Same::refused, [&](std::int64_t offset) {
    layer.backward(record, here, dy, at(offset), {.y = y, .dresidual = other});
  });
  expect_apart("dresidual and x", Same::refused, [&](std::int64_t offset) {
    layer.backward(record, here, dy, other, {.y = y, .dresidual = at(offset)});
  });
  expect_apart("dx and y", Same::refused, [&](std::int64_t offset) {
    layer.backward(record, x, dy, at(offset), {.y = here, .dresidual = other});
  });
  expect_apart("dresidual and y", Same::refused, [&](std::int64_t offset) {
    layer.backward(record, x, dy, other, {.y = here, .dresidual = at(offset)});
  });
  expect_apart("dx and dresidual", Same::refused, [&](std::int64_t offset) {
    layer.backward(record, x, dy, at(offset), {.y = y, .dresidual = here});
  });
}

TEST_F(Memory, OfABackwardInPlaceIsApartOrTheSame) {
  layer.forward_in_place(arena.view(5), record);
  expect_apart("dx and dy", Same::allowed, [&](std::int64_t offset) {
    layer.backward_in_place(record, arena.view(5), arena.view(0), arena.view(0, offset));
  });
  expect_apart("dx and y", Same::refused, [&](std::int64_t offset) {
    layer.backward_in_place(record, arena.view(0), arena.view(5), arena.view(0, offset));
  });
}

TEST_F(Memory, OfNoBytesOverlapsNothing) {
  const auto empty = [&](double tensors) {
    return TensorView(arena.at(0) + static_cast<std::int64_t>(tensors), Shape{0, 4, 3});
  };
  EXPECT_NO_THROW(layer.forward(empty(0), empty(1), record));
  EXPECT_NO_THROW(layer.backward(record, empty(0), empty(0), empty(0)));
}

TEST_F(Memory, OfLayersTogetherIsApart) {
  BatchNorm second(4, layer.communicator(), {.name = "second"});
  ForwardRecord of_second;
  const auto forward = [&](const TensorView& x, const TensorView& y) {
    const std::vector<ForwardCall> calls = {{layer, arena.view(5), arena.view(0), record},
                                            {second, x, y, of_second}};
    forward_together(calls);
  };
  EXPECT_NO_THROW(forward(arena.view(5), arena.view(1))) << "both read the same";
  expect_apart("one's x and the other's y", Same::refused,
               [&](std::int64_t offset) { forward(arena.view(0, offset), arena.view(-5)); });
  expect_apart("one's y and the other's", Same::refused,
               [&](std::int64_t offset) { forward(arena.view(5), arena.view(0, offset)); });
  const auto backward = [&](const TensorView& x, const TensorView& dx) {
    const std::vector<BackwardCall> calls = {
        {.layer = layer,
         .record = record,
         .x = arena.view(5),
         .dy = arena.view(6),
         .dx = arena.view(0)},
        {.layer = second, .record = of_second, .x = x, .dy = arena.view(6), .dx = dx}};
    backward_together(calls);
  };
  EXPECT_NO_THROW(forward(arena.view(5), arena.view(1)));
  expect_apart("one's dx and the other's x", Same::refused,
               [&](std::int64_t offset) { backward(arena.view(0, offset), arena.view(-5)); });
  expect_apart("one's dx and the other's", Same::refused,
               [&](std::int64_t offset) { backward(arena.view(5), arena.view(0, offset)); });
}

TEST_F(Memory, OfTheWeightIsAligned) {
  alignas(8) std::array<std::byte, (positions + 1) * sizeof(float)> bytes{};
  const PositionWeights weight(reinterpret_cast<const float*>(&bytes[2]), positions);
  EXPECT_THROW(layer.forward(arena.view(0), arena.view(1), record, {.position_weights = weight}),
               InvalidArgument);
  EXPECT_THROW(layer.infer(arena.view(0), arena.view(1), {.position_weights = weight}),
               InvalidArgument);
}

TEST_F(Memory, ThatOverlapsIsNamedWithItsDistance) {
  EXPECT_THAT(test::failure_of<InvalidArgument>(
                  [&] { layer.forward(arena.view(0), arena.view(0, 4), record); }),
              AllOf(HasSubstr("y overlaps x"), HasSubstr("16 bytes behind")));
}

/// The phases' arrays, too many for members: each test replaces one.
struct PhaseMemory {
  std::vector<double> pivot = std::vector<double>(4, 0.0);
  std::vector<double> sums = std::vector<double>(sums_length(4), 1.0);
  Statistics statistics{.mean = std::vector<double>(4, 0.0),
                        .var = std::vector<double>(4, 1.0),
                        .invstd = std::vector<double>(4, 1.0),
                        .count = 6};
};

/// A view of arrays of doubles as a tensor of f64.
TensorView as_tensor(std::vector<double>& values) {
  return {values.data(), DType::f64, {1, 4, 1}};
}

TEST(MemoryOfPhases, OfNormalizeIsApartOrTheSame) {
  Arena arena;
  PhaseMemory of;
  expect_apart("y and x", Same::allowed, [&](std::int64_t offset) {
    normalize(arena.view(0), of.statistics, {}, {}, std::nullopt, arena.view(0, offset));
  });
  expect_apart("y and the residual", Same::allowed, [&](std::int64_t offset) {
    normalize(arena.view(5), of.statistics, {}, {}, arena.view(0), arena.view(0, offset));
  });
}

TEST(MemoryOfPhases, OfNormalizeIsApartFromStatisticsAndParameters) {
  PhaseMemory of;
  std::vector<double> x(4, 1.0), gamma(4, 1.0), beta(4, 0.0), y(4);
  const auto write = [&](std::vector<double>& to) {
    normalize(as_tensor(x), of.statistics, {gamma, beta}, {}, std::nullopt, as_tensor(to));
  };
  EXPECT_NO_THROW(write(y));
  for (std::vector<double>* other : {&gamma, &beta, &of.statistics.mean, &of.statistics.invstd}) {
    EXPECT_THROW(write(*other), InvalidArgument);
  }
}

TEST(MemoryOfPhases, OfSumsIsApartFromAllElse) {
  PhaseMemory of;
  std::vector<double> both(sums_length(4) + 4, 1.0);
  const std::span<double> sums = std::span(both).first(sums_length(4));
  const ConstTensorView behind(&both[sums_length(4)], Shape{1, 4, 1});
  const ConstTensorView inside(&both[sums_length(4) - 1], Shape{1, 4, 1});
  EXPECT_NO_THROW(forward_sums(behind, of.pivot, sums));
  EXPECT_THROW(forward_sums(inside, of.pivot, sums), InvalidArgument);
  std::vector<double> dy(4, 1.0);
  const ConstTensorView view(dy.data(), Shape{1, 4, 1});
  EXPECT_NO_THROW(backward_sums({.x = behind, .dy = view, .statistics = of.statistics}, sums));
  EXPECT_THROW(backward_sums({.x = inside, .dy = view, .statistics = of.statistics}, sums),
               InvalidArgument);
  EXPECT_THROW(backward_sums({.x = view, .dy = inside, .statistics = of.statistics}, sums),
               InvalidArgument);
}

TEST(MemoryOfPhases, OfTheInputGradientIsApartOrTheSame) {
  Arena arena;
  PhaseMemory of;
  expect_apart("dx and dy", Same::allowed, [&](std::int64_t offset) {
    input_gradient({.x = arena.view(5), .dy = arena.view(0), .statistics = of.statistics}, of.sums,
                   arena.view(0, offset), std::nullopt);
  });
  expect_apart("dx and dresidual", Same::refused, [&](std::int64_t offset) {
    input_gradient({.x = arena.view(5), .dy = arena.view(6), .statistics = of.statistics}, of.sums,
                   arena.view(0, offset), arena.view(0));
  });
  std::vector<double> x(4, 1.0), dy(4, 1.0);
  const auto write = [&](double* to) {
    input_gradient({.x = as_tensor(x), .dy = as_tensor(dy), .statistics = of.statistics}, of.sums,
                   TensorView(to, Shape{1, 4, 1}), std::nullopt);
  };
  EXPECT_THROW(write(of.sums.data() + 5), InvalidArgument);
  EXPECT_THROW(write(of.statistics.mean.data()), InvalidArgument);
}

TEST(MemoryOfPhases, OfPivotAndSumsIsAligned) {
  PhaseMemory of;
  alignas(8) std::array<std::byte, 128> bytes{};
  auto* doubles = reinterpret_cast<double*>(&bytes[4]);
  std::vector<double> x(4, 1.0);
  EXPECT_THROW(forward_sums(as_tensor(x), {doubles, 4}, of.sums), InvalidArgument);
  EXPECT_THROW(forward_sums(as_tensor(x), of.pivot, {doubles, 9}), InvalidArgument);
  EXPECT_THROW(finalize({doubles, 9}, of.pivot, 1e-5, of.statistics), InvalidArgument);
  EXPECT_THROW(normalize(as_tensor(x), of.statistics,
                         {std::span<const double>(doubles, 4), std::span<const double>(doubles, 4)},
                         {}, std::nullopt, as_tensor(x)),
               InvalidArgument);
}

}  // namespace
}  // namespace syncbn
