// SPDX-License-Identifier: Apache-2.0
//
// What users do wrong: one rank's model, order, mode, type or state differs. Every rank must get
// the message, and layers stay as they were.

#include <chrono>
#include <cmath>
#include <span>
#include <string>
#include <thread>
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

std::string forward_failure(BatchNorm& layer, DType dtype = DType::f32) {
  const Tensor x = Tensor::normal(dtype, {2, layer.channels(), 3}, Layout::channels_first, 1);
  Tensor y(dtype, x.shape(), x.layout());
  ForwardRecord record;
  const std::string failure =
      test::failure_of<CommError>([&] { layer.forward(x.view(), y.view(), record); });
  EXPECT_TRUE(failure.empty() || record.is_empty()) << "`record` is as it was";
  return failure;
}

template <class Body>
void on_groups(Body&& body) {
  test::on_ranks([&](const Communicator& group) {
    if (group.size() > 1) {
      body(group, group.rank() == group.size() - 1);
    }
  });
}

TEST(Ranks, WithAnotherLayer) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm layer(4, group, {.name = odd ? "layer2.bn1" : "layer1.bn1"});
    EXPECT_THAT(forward_failure(layer),
                AllOf(HasSubstr("'layer1.bn1'"), HasSubstr("'layer2.bn1'")));
    EXPECT_EQ(*layer.num_batches_tracked(), 0);
    EXPECT_EQ(layer.running_mean()[0], 0);
  });
}

TEST(Ranks, OneThatRefusesAWeightIsMissedWithTheReason) {
  const auto missed = [](const Communicator& group, bool odd) {
    BatchNorm layer(4, group, {.name = "bn1"});
    const Tensor x = Tensor::normal(DType::f32, {2, 4, 3}, Layout::channels_first, 1);
    Tensor y(DType::f32, x.shape(), x.layout());
    ForwardRecord record;
    const std::vector<float> weight(6, odd ? std::nanf("") : 1.0F);
    ASSERT_EQ(forward_failure(layer), "");
    if (odd) {
      EXPECT_THROW(layer.forward(x.view(), y.view(), record, {.position_weights = weight}),
                   InvalidArgument);
      // The group is not given up. But nothing else comes, and leaving it would be told.
      std::this_thread::sleep_for(std::chrono::seconds(12));
      return;
    }
    EXPECT_THAT(test::failure_of<CommError>([&] {
                  layer.forward(x.view(), y.view(), record, {.position_weights = weight});
                }),
                AllOf(HasSubstr("did not come within 4 s"),
                      HasSubstr("; the last it refused: position_weights[0]")));
  };
  test::on_ranks(
      [&](const Communicator& group) {
        if (group.size() > 1) {
          missed(group, group.rank() == group.size() - 1);
        }
      },
      std::chrono::seconds(4));
}

TEST(Ranks, WithAnotherNumberOfChannels) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm layer(odd ? 8 : 4, group);
    EXPECT_THAT(forward_failure(layer), AllOf(HasSubstr("C=4"), HasSubstr("C=8")));
  });
}

TEST(Ranks, WithAnotherType) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm layer(4, group);
    EXPECT_THAT(forward_failure(layer, odd ? DType::bf16 : DType::f32),
                AllOf(HasSubstr("f32"), HasSubstr("bf16")));
  });
}

TEST(Ranks, WithOtherRunningStatistics) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm layer(4, group);
    ASSERT_EQ(forward_failure(layer), "");
    if (odd) {
      layer.running_mean()[3] += 0.5;  // as after loading another checkpoint
    }
    EXPECT_THAT(forward_failure(layer), HasSubstr("running mean"));
  });
}

TEST(Ranks, WithARunningVarianceThatDiffersInTheLastBit) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm layer(4, group);
    if (odd) {
      layer.running_var()[0] = std::nextafter(1.0, 2.0);
    }
    EXPECT_THAT(forward_failure(layer), HasSubstr("running statistics"));
  });
}

TEST(Ranks, WithUnnamedLayersInAnotherOrder) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm one(4, group), two(4, group);
    EXPECT_THAT(forward_failure(odd ? two : one),
                AllOf(HasSubstr("'batch_norm.0'"), HasSubstr("'batch_norm.1'")));
  });
}

TEST(Ranks, WithNamesThatDifferBeyondTheMessage) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm layer(4, group, {.name = std::string(100, 'n') + (odd ? "1" : "2")});
    EXPECT_THAT(forward_failure(layer), HasSubstr("differ after 96 bytes"));
  });
}

TEST(Ranks, WithOtherOptions) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm layer(4, group, {.eps = odd ? 1e-3 : 1e-5});
    EXPECT_THAT(forward_failure(layer), AllOf(HasSubstr("eps 0.001"), HasSubstr("eps 1e-05")));
  });
}

TEST(Ranks, WithLayersOfOneNameInAnotherOrder) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm one(4, group, {.name = "bn"}), two(4, group, {.name = "bn"});
    EXPECT_EQ(two.options().name, "bn");
    EXPECT_THAT(forward_failure(odd ? two : one),
                AllOf(HasSubstr("'bn' "), HasSubstr("'bn (no. 2 of this name)'")));
  });
}

TEST(Ranks, ThatReplaceALayerByOneOfItsNameGoOn) {
  on_groups([](const Communicator& group, bool odd) {
    if (odd) {
      const BatchNorm another(4, group, {.name = "evaluated on this rank alone"});
    }
    BatchNorm layer(4, group, {.name = "bn"});
    ASSERT_EQ(forward_failure(layer), "");
    layer = BatchNorm(4, group, {.name = "bn"});  // made while the other is there
    EXPECT_EQ(forward_failure(layer), "");
  });
}

std::string parameter_failure(const Communicator& group, std::int64_t channels, bool odd,
                              const BatchNormOptions& options, int& forwards) {
  BatchNorm layer(channels, group, options);
  if (odd) {
    const std::span<double> values = options.name == "beta" ? layer.bias() : layer.weight();
    values.back() = std::nextafter(values.back(), 2.0);
  }
  std::string message;
  for (forwards = 0; message.empty() && forwards < 8; ++forwards) {
    message = forward_failure(layer);
  }
  return message;
}

TEST(Ranks, WithAGammaOrBetaThatDiffersInTheLastBit) {
  on_groups([](const Communicator& group, bool odd) {
    for (const char* name : {"gamma", "beta"}) {
      int forwards = 0;
      EXPECT_THAT(parameter_failure(group.split(0), 4, odd, {.name = name}, forwards),
                  AllOf(HasSubstr("gamma or beta differ"), Not(HasSubstr("running mean"))));
      EXPECT_EQ(forwards, 1) << "few channels are compared in every forward";
      EXPECT_THAT(parameter_failure(group.split(0), 200, odd, {.name = name}, forwards),
                  HasSubstr("gamma or beta differ"));
      EXPECT_EQ(forwards, 8) << "of many the last eighth in the last of eight";
    }
  });
}

TEST(Ranks, WhoseParametersAreToDifferMayDiffer) {
  on_groups([](const Communicator& group, bool odd) {
    int forwards = 0;
    EXPECT_EQ(parameter_failure(group, 4, odd, {.compare_parameters = false}, forwards), "");
  });
}

TEST(Ranks, ThatDoNotAllCompareParameters) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm layer(4, group, {.compare_parameters = odd});
    EXPECT_THAT(forward_failure(layer), HasSubstr("own parameters"));
  });
}

TEST(Ranks, WithParametersThatDifferInLayersTogether) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm layer(4, group);
    if (odd) {
      layer.bias()[0] = 1;
    }
    const Tensor x = Tensor::normal(DType::f32, {2, 4, 3}, Layout::channels_first, 1);
    Tensor y = x;
    ForwardRecord record;
    const std::vector<ForwardCall> calls = {{layer, x.view(), y.view(), record}};
    EXPECT_THAT([&] { forward_together(calls); },
                testing::ThrowsMessage<CommError>(HasSubstr("gamma or beta differ")));
  });
}

/// What the rank is told whose call is one of two that do not fit together.
template <class Call, class OddCall>
std::string call_failure(bool odd, Call call, OddCall odd_call) {
  return test::failure_of<CommError>([&] { odd ? odd_call() : call(); });
}

TEST(Ranks, OneWithAResidual) {
  on_groups([](const Communicator& group, bool odd) {
    const Tensor x = Tensor::normal(DType::f32, {2, 4, 3}, Layout::channels_first, 1);
    Tensor y = x;
    ForwardRecord record;
    const Communicator part = group.split(0);
    BatchNorm layer(4, part, {.name = "bn"}), untracked(4, group, {.track_running_stats = false});
    EXPECT_THAT(call_failure(
                    odd, [&] { layer.forward(x.view(), y.view(), record); },
                    [&] { layer.forward(x.view(), y.view(), record, {.residual = x.view()}); }),
                AllOf(HasSubstr("forward of 'bn'"), HasSubstr("forward with a residual of 'bn'")));
    EXPECT_THAT(call_failure(
                    odd, [&] { untracked.infer(x.view(), y.view()); },
                    [&] { untracked.infer(x.view(), y.view(), {.residual = x.view()}); }),
                HasSubstr("with a residual"));
  });
}

TEST(Ranks, OneWithAResidualInLayersTogether) {
  on_groups([](const Communicator& group, bool odd) {
    const Tensor x = Tensor::normal(DType::f32, {2, 4, 3}, Layout::channels_first, 1);
    Tensor y = x;
    ForwardRecord record;
    BatchNorm layer(4, group, {.name = "bn"});
    std::vector<ForwardCall> calls = {{layer, x.view(), y.view(), record}};
    if (odd) {
      calls[0].extras.residual.emplace(x.view());
    }
    EXPECT_THAT([&] { forward_together(calls); },
                testing::ThrowsMessage<CommError>(HasSubstr("bn[4, residual]")));
  });
}

TEST(Ranks, OneInPlace) {
  on_groups([](const Communicator& group, bool odd) {
    Tensor x = Tensor::normal(DType::f32, {2, 4, 3}, Layout::channels_first, 1);
    Tensor y = x;
    ForwardRecord record;
    BatchNorm layer(4, group, {.name = "bn"});
    EXPECT_THAT(call_failure(
                    odd, [&] { layer.forward(x.view(), y.view(), record); },
                    [&] { layer.forward_in_place(x.view(), record); }),
                AllOf(HasSubstr("forward of 'bn'"), HasSubstr("forward in place of 'bn'")));
  });
}

TEST(Ranks, InAnotherMode) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm layer(4, group, {.track_running_stats = false});
    ASSERT_EQ(forward_failure(layer), "");
    const Tensor x = Tensor::normal(DType::f32, {2, 4, 3}, Layout::channels_first, 1);
    Tensor y = x;
    std::string message;
    if (odd) {
      message = test::failure_of<CommError>([&] { layer.infer(x.view(), y.view()); });
    } else {
      message = forward_failure(layer);
    }
    EXPECT_THAT(message, AllOf(HasSubstr("forward of"), HasSubstr("infer")));
  });
}

TEST(Ranks, OneInTheBackwardOfAnotherForward) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm layer(4, group);
    const Tensor x = Tensor::normal(DType::f32, {2, 4, 3}, Layout::channels_first, 1);
    Tensor y = x, dx = x;
    ForwardRecord first, second;
    layer.forward(x.view(), y.view(), first);
    layer.forward(x.view(), y.view(), second);
    EXPECT_THAT(test::failure_of<CommError>(
                    [&] { layer.backward(odd ? first : second, x.view(), x.view(), dx.view()); }),
                AllOf(HasSubstr("of forward no. 1\n"), HasSubstr("of forward no. 2\n"),
                      HasSubstr("record of the same forward"), Not(HasSubstr("running mean"))));
    EXPECT_EQ(layer.bias_grad()[0], 0);
  });
}

TEST(Ranks, OneSkipsALayer) {
  on_groups([](const Communicator& group, bool odd) {
    BatchNorm one(4, group, {.name = "one"}), two(4, group, {.name = "two"});
    ASSERT_EQ(forward_failure(one), "");
    ASSERT_EQ(forward_failure(two), "");
    EXPECT_THAT(forward_failure(odd ? two : one), AllOf(HasSubstr("'one'"), HasSubstr("'two'")));
    EXPECT_THAT(forward_failure(one), HasSubstr("unusable"));
  });
}

}  // namespace
}  // namespace syncbn
