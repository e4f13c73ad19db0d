// SPDX-License-Identifier: Apache-2.0
#pragma once

// These are operations of a greengrocer. The tests of comm take them to show that it prints the
// words of any trade, and knows none.

#include <array>

#include "comm/group/descriptor.hpp"

namespace syncbn::test {

inline constexpr std::array<comm::FactWords, comm::most_facts> facts_of_deliveries{
    comm::FactWords{.name = "price list", .advice = "Give every rank the same price list."},
    {.name = "carts", .one = "cart", .advice = "Load as many carts on every rank."},
    {.name = "recipes", .advice = "The recipes differ."},
    {.name = "stock", .advice = "Count the stock of every rank."}};
inline constexpr comm::Operation delivery{
    "delivery", "crates", "Every rank must deliver the same goods in the same order.",
    facts_of_deliveries};
inline constexpr comm::Operation collection{
    "collection", "crates", "Every rank must collect the same goods in the same order.",
    facts_of_deliveries};

inline constexpr comm::Descriptor apples{&delivery, "apples", 4, DType::f32};
inline constexpr comm::Descriptor pears{&delivery, "pears", 4, DType::f32};

}  // namespace syncbn::test
