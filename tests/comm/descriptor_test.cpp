// SPDX-License-Identifier: Apache-2.0
#include "comm/group/descriptor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace syncbn::comm {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string table(const std::vector<Descriptor>& ranks) {
  std::vector<double> packed(ranks.size() * descriptor_words, 0.0);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    pack(ranks[rank], 7, std::span(packed).subspan(rank * descriptor_words, descriptor_words));
  }
  return describe_disagreement(packed);
}

constexpr Descriptor bn1{Operation::forward, "layer1.bn1", 64, DType::f32, 1};

TEST(Descriptor, NamesLayerChannelsTypeAndPass) {
  EXPECT_EQ(describe(bn1), "forward of 'layer1.bn1' (C=64, f32)");
}

TEST(Descriptor, DisagreementListsWhoDidWhat) {
  const Descriptor backward{Operation::backward, "layer4.bn2", 512, DType::bf16, 1};
  EXPECT_THAT(table({bn1, bn1, backward, bn1, bn1}),
              AllOf(HasSubstr("ranks 0-1, 3-4: exchange #7, forward of 'layer1.bn1' (C=64, f32)"),
                    HasSubstr("rank 2: exchange #7, backward of 'layer4.bn2' (C=512, bf16)"),
                    HasSubstr("in the same order")));
}

TEST(Descriptor, DifferentSharedStateIsSaidToBeThat) {
  Descriptor other = bn1;
  other.shared = 0xffff'ffff'ffff'fff0;
  EXPECT_THAT(table({bn1, other}),
              AllOf(HasSubstr("running mean"), Not(HasSubstr("in the same order"))));
}

TEST(Descriptor, DifferentOptionsAreListed) {
  Descriptor one = bn1;
  Descriptor other = bn1;
  one.options = "eps 1e-05";
  other.options = "eps 0.001";
  other.shared = 2;  // follows from it, or not: the options are what to look at first
  EXPECT_THAT(table({one, other}),
              AllOf(HasSubstr("rank 0: exchange #7, forward of 'layer1.bn1' (C=64, f32) with eps "
                              "1e-05\n"),
                    HasSubstr("with eps 0.001\n"), HasSubstr("same options")));
}

TEST(Descriptor, DifferentParametersAreSaidToBeThat) {
  Descriptor other = bn1;
  other.parameters = 0xffff'0000'0000'0001;
  EXPECT_THAT(table({bn1, other}),
              AllOf(HasSubstr("gamma or beta differ"), Not(HasSubstr("running mean"))));
}

TEST(Descriptor, SaysWhatAPassWorksWith) {
  Descriptor other = bn1;
  other.given = Given::residual;
  EXPECT_EQ(describe(other), "forward with a residual of 'layer1.bn1' (C=64, f32)");
  EXPECT_THAT(table({bn1, other}), HasSubstr("all with a residual or none"));
  other.given = Given::in_place;
  EXPECT_EQ(describe(other), "forward in place of 'layer1.bn1' (C=64, f32)");
}

TEST(Descriptor, LongNamesAreCutBetweenCharacters) {
  std::string name = "n";
  while (name.size() < 200) {
    name += "\xe2\x82\xac";
  }
  Descriptor longest = bn1;
  longest.layer = name;
  EXPECT_THAT(table({bn1, longest}), HasSubstr("'" + name.substr(0, 94) + "'"));
}

TEST(Descriptor, LongNamesAreCut) {
  const std::string name(1000, 'n');
  Descriptor longest = bn1;
  longest.layer = name;
  EXPECT_THAT(table({bn1, longest}), HasSubstr("'" + std::string(96, 'n') + "'"));
}

}  // namespace
}  // namespace syncbn::comm
