// SPDX-License-Identifier: Apache-2.0

// Layers taken together give what they give one by one, with one message for all.

#include <functional>
#include <optional>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Tensor;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// A layer with the tensors of its passes.
struct Branch {
  BatchNorm layer;
  Tensor x, residual, y, dy, dx, dresidual;
  std::vector<float> position_weights;
  bool adds = false;
  ForwardRecord record = {};

  ForwardCall forward() {
    return {layer,
            x.view(),
            y.view(),
            record,
            {.residual = adds ? std::optional<ConstTensorView>(residual.view()) : std::nullopt,
             .position_weights = position_weights}};
  }
  BackwardCall backward() {
    BackwardCall call{layer, record, x.view(), dy.view(), dx.view()};
    if (adds) {
      call.extras.y = y.view();
      call.extras.dresidual = dresidual.view();
    }
    call.extras.position_weights = position_weights;
    return call;
  }
};

enum class Extras { none, residual, weight };

Branch branch(const Communicator& group, DType dtype, Shape shape, Layout layout,
              BatchNormOptions options, Extras extras = Extras::none) {
  const auto seed = static_cast<std::uint64_t>(100 * group.rank() + shape.c);
  options.name = "branch" + std::to_string(shape.c);
  const auto drawn = [&](std::uint64_t of) {
    return Tensor::normal(dtype, shape, layout, seed + of, 0.5);
  };
  Branch result{.layer = BatchNorm(shape.c, group, options),
                .x = drawn(1),
                .residual = drawn(2),
                .y = drawn(3),
                .dy = drawn(4),
                .dx = drawn(5),
                .dresidual = drawn(6),
                .position_weights = {},
                .adds = extras == Extras::residual};
  if (extras == Extras::weight) {
    result.position_weights.assign(static_cast<std::size_t>(shape.per_channel()), 0.5F);
  }
  return result;
}

/// Branches of all kinds; rank r has r samples more than rank 0, which has none in one of them.
std::vector<Branch> branches(const Communicator& group) {
  const std::int64_t n = 2 + group.rank();
  std::vector<Branch> all;
  all.push_back(branch(group, DType::f32, {n, 3, 10}, Layout::channels_first,
                       {.activation = Activation::relu}));
  all.push_back(branch(group, DType::f64, {n, 5, 7}, Layout::channels_last, {}, Extras::residual));
  all.push_back(branch(group, DType::bf16, {n, 33, 1}, Layout::channels_first,
                       {.activation = Activation::leaky_relu(0.1)}, Extras::weight));
  all.push_back(branch(
      group, DType::f32, {group.size() == 1 ? 2 : group.rank(), 4, 9}, Layout::channels_first,
      {.track_running_stats = false, .parameter_gradients = GradientScope::group}));
  all.push_back(branch(group, DType::f32, {n, 6, 9}, Layout::channels_first,
                       {.reproducibility = Reproducibility::exact}));
  return all;
}

/// Two steps, the second far from what the first made expected in one branch.
void train(std::vector<Branch>& all, const std::function<void(std::vector<Branch>&)>& step) {
  step(all);
  Tensor& x = all[0].x;
  for (std::int64_t n = 0; n < x.shape().n; ++n) {
    for (std::int64_t s = 0; s < x.shape().s; ++s) {
      x.set(n, 2, s, x.at(n, 2, s) + 1e6);
    }
  }
  step(all);
}

void one_by_one(std::vector<Branch>& all) {
  for (Branch& branch : all) {
    const ForwardCall call = branch.forward();
    call.layer.forward(call.x, call.y, call.record, call.extras);
  }
  for (Branch& branch : all) {
    const BackwardCall call = branch.backward();
    call.layer.backward(call.record, call.x, call.dy, call.dx, call.extras);
  }
}

void together(std::vector<Branch>& all) {
  std::vector<ForwardCall> forwards;
  std::vector<BackwardCall> backwards;
  for (Branch& branch : all) {
    forwards.push_back(branch.forward());
    backwards.push_back(branch.backward());
  }
  forward_together(forwards);
  backward_together(backwards);
}

std::vector<double> values(std::span<const double> span) {
  return {span.begin(), span.end()};
}

TEST(LayersTogether, HaveTheBitsOfLayersOneByOne) {
  test::on_ranks([](const Communicator& group) {
    std::vector<Branch> apart = branches(group), joined = branches(group);
    train(apart, one_by_one);
    train(joined, together);
    EXPECT_EQ(apart[0].layer.pivot_retries(), 1) << "the second step has to repeat its sums";
    for (std::size_t i = 0; i < apart.size(); ++i) {
      Branch &one = apart[i], &other = joined[i];
      EXPECT_EQ(one.y, other.y) << i;
      EXPECT_EQ(one.dx, other.dx) << i;
      EXPECT_EQ(one.dresidual, other.dresidual) << i;
      EXPECT_EQ(values(one.layer.weight_grad()), values(other.layer.weight_grad()));
      EXPECT_EQ(values(one.layer.bias_grad()), values(other.layer.bias_grad()));
      EXPECT_EQ(values(one.layer.running_mean()), values(other.layer.running_mean()));
      EXPECT_EQ(values(one.layer.running_var()), values(other.layer.running_var()));
      EXPECT_EQ(one.layer.pivot_retries(), other.layer.pivot_retries());
    }
  });
}

TEST(LayersTogether, SendOneMessage) {
  test::on_ranks([](const Communicator& group) {
    std::vector<Branch> all;
    for (const std::int64_t c : {3, 4, 5}) {
      all.push_back(branch(group, DType::f32, {4, c, 10}, Layout::channels_first, {}));
    }
    const Counters before = group.counters();
    together(all);
    const Counters after = group.counters();
    constexpr std::int64_t doubles = 2 * ((2 * 3 + 2) + (2 * 4 + 2) + (2 * 5 + 2));
    EXPECT_EQ(after.exchanges - before.exchanges, group.size() == 1 ? 0 : 2);
    EXPECT_EQ(after.bytes - before.bytes, group.size() == 1 ? 0 : 8 * doubles);
  });
}

TEST(LayersTogether, AreToldApartFromOthers) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    const bool odd = group.rank() == group.size() - 1;
    std::vector<Branch> all;
    for (const std::int64_t c : {3, 4, odd ? 6 : 5}) {
      all.push_back(branch(group, DType::f32, {4, c, 10}, Layout::channels_first, {}));
    }
    EXPECT_THAT(test::failure_of<CommError>([&] { together(all); }),
                AllOf(HasSubstr("'branch3[3] + branch4[4] + branch5[5]' (C=12"),
                      HasSubstr("'branch3[3] + branch4[4] + branch6[6]' (C=13")));
    EXPECT_EQ(*all[0].layer.num_batches_tracked(), 0);
    EXPECT_TRUE(all[0].record.is_empty());
  });
}

TEST(LayersTogether, AreToldApartByTheStateOfOne) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    std::vector<Branch> all;
    for (const std::int64_t c : {3, 4, 5}) {
      all.push_back(branch(group, DType::f32, {4, c, 10}, Layout::channels_first, {}));
    }
    together(all);
    if (group.rank() == 0) {
      all[1].layer.running_mean()[0] += 1;
    }
    EXPECT_THAT(test::failure_of<CommError>([&] { together(all); }), HasSubstr("running mean"));
    EXPECT_EQ(*all[0].layer.num_batches_tracked(), 1);
  });
}

std::string refusal(const std::vector<ForwardCall>& calls) {
  return test::failure_of<InvalidArgument>([&] { forward_together(calls); });
}

TEST(LayersTogether, AreRefusedBeforeAnythingIsSent) {
  const Communicator self = Communicator::self();
  const auto of = [](const Communicator& group, std::int64_t c) {
    return branch(group, DType::f32, {2, c, 3}, Layout::channels_first, {});
  };
  Branch one = of(self, 3), two = of(self, 4), foreign = of(Communicator::self(), 5);
  EXPECT_THAT(refusal({one.forward(), foreign.forward()}), HasSubstr("another communicator"));
  EXPECT_THAT(refusal({one.forward(), two.forward(), one.forward()}), HasSubstr("given twice"));
  ForwardCall borrowed{two.layer, two.x.view(), two.y.view(), one.record};
  EXPECT_THAT(refusal({one.forward(), borrowed}), HasSubstr("its record is that of"));
  ForwardCall wrong{two.layer, one.x.view(), one.y.view(), two.record};
  EXPECT_THAT(refusal({one.forward(), wrong}), HasSubstr("channels"));
  two.position_weights.assign(6, -1.0F);
  EXPECT_THAT(refusal({one.forward(), two.forward()}), Not(HasSubstr("unusable")));
  EXPECT_EQ(*one.layer.num_batches_tracked(), 0);
  two.position_weights.clear();
  EXPECT_EQ(refusal({one.forward(), two.forward()}), "");

  BackwardCall half = one.backward();
  half.extras.y = one.y.view();
  EXPECT_THROW(backward_together(std::vector{half}), InvalidArgument);
  EXPECT_EQ(refusal({}), "");
}

TEST(LayersTogether, AreAsTheyWereWhenOneIsRefused) {
  const Communicator self = Communicator::self();
  const auto of = [&](DType dtype, std::int64_t c) {
    return branch(self, dtype, {2, c, 3}, Layout::channels_first, {});
  };
  Branch layer = of(DType::f64, 3), twin = of(DType::f64, 3), other = of(DType::f64, 4);
  Branch of_floats = of(DType::f32, 3);
  forward_together(std::vector{layer.forward()});
  forward_together(std::vector{twin.forward()});
  // A pivot for x of f32 would have fewer digits.
  const ForwardCall floats{layer.layer, of_floats.x.view(), of_floats.y.view(), layer.record};
  other.position_weights.assign(6, -1.0F);
  EXPECT_THAT(refusal({floats, other.forward()}), HasSubstr("position_weights[0]"));
  forward_together(std::vector{layer.forward()});
  forward_together(std::vector{twin.forward()});
  EXPECT_EQ(values(layer.layer.running_mean()), values(twin.layer.running_mean()));
  EXPECT_EQ(values(layer.layer.running_var()), values(twin.layer.running_var()));
}

}  // namespace
}  // namespace syncbn
