// SPDX-License-Identifier: Apache-2.0
#include "bn/operations.hpp"

#include <array>
#include <string_view>

namespace syncbn::bn {
namespace {

constexpr std::string_view same_layers =
    "Every rank must call the same layers, with the same channels and type, in the same order, all "
    "with a residual or none, all in place or none. Did a rank skip a layer, or use another model "
    "or mode?";

constexpr comm::FactWords after_forward{
    .name = "after forward",
    .advice =
        "The ranks have called the layer's forward different numbers of times. Did a rank "
        "skip one, or make the layer anew?"};
constexpr comm::FactWords of_forward{
    .name = "of forward",
    .advice =
        "The ranks go back through different forwards of the layer. Give each rank's backward "
        "the record of the same forward."};
constexpr comm::FactWords parameters{
    .name = "gamma and beta",
    .advice =
        "The layer's gamma or beta differ. Begin with the same on every rank and add up their "
        "gradients over the ranks, or if they are to differ set compare_parameters to false."};
constexpr comm::FactWords blocks{
    .name = "blocks of channels",
    .one = "block of channels",
    .advice =
        "The ranks cut the layer into different numbers of blocks, which they voted for in "
        "its earlier forwards. Call its forward in turn on all ranks, and its backward with "
        "the record of the same forward."};
constexpr comm::FactWords statistics{
    .name = "running statistics",
    .advice =
        "The layer's running mean or its other history differ (on a device, maybe gamma or "
        "beta). Load the same state on every rank."};

constexpr comm::Operation operation(std::string_view text, const comm::FactWords& forward) {
  return comm::Operation(text, "C", same_layers, {forward, parameters, blocks, statistics});
}

// The variants of a pass are in the order of Given.
constexpr std::array forwards{operation("forward", after_forward),
                              operation("forward with a residual", after_forward),
                              operation("forward in place", after_forward)};
constexpr std::array infers{operation("infer with batch statistics", after_forward),
                            operation("infer with batch statistics with a residual", after_forward),
                            operation("infer with batch statistics in place", after_forward)};
constexpr std::array backwards{
    operation("backward", of_forward), operation("backward with a residual", of_forward),
    operation("backward in place", of_forward), operation("backward behind an infer", of_forward)};
constexpr comm::Operation second_sums = operation("second sums about the mean", after_forward);

constexpr auto residual = static_cast<std::size_t>(Given::residual);

}  // namespace

const comm::Operation& forward_operation(Given given) {
  return forwards.at(static_cast<std::size_t>(given));
}

const comm::Operation& infer_operation(Given given) {
  return infers.at(static_cast<std::size_t>(given));
}

const comm::Operation& backward_operation(Given given) {
  return backwards.at(static_cast<std::size_t>(given));
}

const comm::Operation& second_sums_operation() {
  return second_sums;
}

bool has_residual(const comm::Operation& operation) {
  return &operation == &forwards[residual] || &operation == &backwards[residual];
}

PassFacts::operator comm::Facts() const {
  comm::Facts facts{};
  facts[Fact::forward] = static_cast<std::uint64_t>(forward);
  facts[Fact::parameters] = parameters;
  facts[Fact::blocks] = static_cast<std::uint64_t>(blocks);
  facts[Fact::statistics] = statistics;
  return facts;
}

}  // namespace syncbn::bn
