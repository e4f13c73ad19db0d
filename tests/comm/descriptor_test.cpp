// SPDX-License-Identifier: Apache-2.0
#include "comm/group/descriptor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/deliveries.hpp"

namespace syncbn::comm {
namespace {

using test::apples;
using test::collection;
using test::pears;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string table(const std::vector<Descriptor>& ranks) {
  std::vector<double> packed(ranks.size() * descriptor_words, 0.0);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    pack(ranks[rank], 7, std::span(packed).subspan(rank * descriptor_words, descriptor_words));
  }
  return describe_disagreement(*ranks.front().operation, packed);
}

Descriptor with_fact(std::size_t fact, std::uint64_t value) {
  Descriptor what = apples;
  what.facts[fact] = value;
  return what;
}

TEST(Descriptor, NamesOperationSubjectCountAndType) {
  EXPECT_EQ(describe(apples), "delivery of 'apples' (crates=4, f32)");
  EXPECT_EQ(describe({.subject = "apples", .count = 3}), "all_reduce of 'apples' (n=3, f64)");
  EXPECT_EQ(describe({.operation = &operations::all_gather, .count = 5}), "all_gather of 5 values");
}

TEST(Descriptor, DisagreementListsWhoDidWhat) {
  const Descriptor other{&collection, "pears", 512, DType::bf16};
  EXPECT_EQ(table({apples, apples, other, apples, apples}),
            "the ranks disagree on what they exchange:"
            "\n  rank 2: exchange #7, collection of 'pears' (crates=512, bf16)"
            "\n  ranks 0-1, 3-4: exchange #7, delivery of 'apples' (crates=4, f32)"
            "\nEvery rank must deliver the same goods in the same order.");
}

TEST(Descriptor, DisagreementOnPlainCallsHasWordsOfItsOwn) {
  EXPECT_EQ(table({{.count = 5}, {.operation = &operations::split, .count = 2}}),
            "the ranks disagree on what they exchange:"
            "\n  rank 0: exchange #7, all_reduce of 5 values"
            "\n  rank 1: exchange #7, split of 2 values"
            "\nEvery rank must make the same calls in the same order, with as many values. Did a "
            "rank skip a call, or take another branch?");
}

TEST(Descriptor, EachFactThatDiffersIsTold) {
  for (std::size_t fact = 0; fact < most_facts; ++fact) {
    const FactWords& words = apples.operation->facts[fact];
    const std::string text = table({with_fact(fact, 1), with_fact(fact, 0xffff'0000'0000'0002)});
    EXPECT_THAT(text, HasSubstr("\n" + std::string(words.advice.view())));
    for (const FactWords& others : apples.operation->facts) {
      if (&others != &words) {
        EXPECT_THAT(text, AllOf(Not(HasSubstr(std::string(others.name.view()))),
                                Not(HasSubstr(std::string(others.advice.view())))));
      }
    }
  }
}

TEST(Descriptor, FingerprintsAreNumberedAndCountsCounted) {
  EXPECT_EQ(table({with_fact(0, 1'234'567), with_fact(0, 8)}),
            "the ranks disagree on what they exchange:"
            "\n  rank 1: exchange #7, delivery of 'apples' (crates=4, f32), price list no. 8"
            "\n  rank 0: exchange #7, delivery of 'apples' (crates=4, f32), price list no. 34567"
            "\nGive every rank the same price list.");
  EXPECT_EQ(table({with_fact(1, 1), with_fact(1, 4), with_fact(1, 1)}),
            "the ranks disagree on what they exchange:"
            "\n  ranks 0, 2: exchange #7, delivery of 'apples' (crates=4, f32), 1 cart"
            "\n  rank 1: exchange #7, delivery of 'apples' (crates=4, f32), 4 carts"
            "\nLoad as many carts on every rank.");
}

TEST(Descriptor, TheFirstOfSeveralFactsThatDifferIsExplained) {
  Descriptor other = with_fact(3, 9);
  other.facts[1] = 2;
  EXPECT_THAT(table({apples, other}),
              AllOf(HasSubstr("0 carts, stock no. 0\n"), HasSubstr("2 carts, stock no. 9\n"),
                    HasSubstr("\nLoad as many carts"), Not(HasSubstr("Count the stock"))));
}

TEST(Descriptor, FactsWithoutWordsAreToldAsState) {
  Descriptor one{.count = 5}, other{.count = 5};
  other.facts[2] = 3;
  EXPECT_THAT(table({one, other}), AllOf(HasSubstr(", state no. 0\n"), HasSubstr(", state no. 3\n"),
                                         HasSubstr("\nEvery rank must make the same calls")));
}

TEST(Descriptor, DifferentOptionsAreListed) {
  Descriptor one = apples;
  Descriptor other = with_fact(3, 2);  // may follow from them: they are what to look at first
  one.options = "cooled";
  other.options = "frozen";
  EXPECT_THAT(table({one, other}),
              AllOf(HasSubstr("rank 0: exchange #7, delivery of 'apples' (crates=4, f32) with "
                              "cooled\n"),
                    HasSubstr("with frozen\n"), Not(HasSubstr("stock")),
                    HasSubstr("\nGive 'apples' the same options on every rank.")));
}

TEST(Descriptor, LongNamesAreCutBetweenCharacters) {
  std::string name = "n";
  while (name.size() < 200) {
    name += "\xe2\x82\xac";
  }
  Descriptor longest = apples;
  longest.subject = name;
  EXPECT_THAT(table({apples, longest}), HasSubstr("'" + name.substr(0, 94) + "'"));
}

TEST(Descriptor, LongNamesAreCut) {
  const std::string name(1000, 'n');
  Descriptor longest = apples;
  longest.subject = name;
  EXPECT_THAT(table({apples, longest}), HasSubstr("'" + std::string(96, 'n') + "'"));
}

TEST(Operation, IsTheSameIfItsTextIs) {
  EXPECT_EQ(Operation("delivery").hash, test::delivery.hash);
  EXPECT_NE(collection.hash, test::delivery.hash);
  EXPECT_THROW(Operation(std::string(longest_operation + 1, 'o')), std::length_error);
}

}  // namespace
}  // namespace syncbn::comm
