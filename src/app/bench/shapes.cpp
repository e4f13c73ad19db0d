// SPDX-License-Identifier: Apache-2.0
#include "app/bench/shapes.hpp"

#include <fmt/format.h>

#include "app/args.hpp"

namespace syncbn::app::bench {
namespace {

// These are the 53 batch norm layers of ResNet-50 (He et al. 2015, table 1) for 224 x 224 pixels.
// As in torchvision, the 3x3 convolution of a stage's first block has the stride.
struct SquareLayers {
  std::int64_t channels;
  std::int64_t side;
  int layers;
};
constexpr SquareLayers resnet50[] = {
    {64, 112, 1},                                // behind the first convolution
    {64, 56, 6},  {256, 56, 4},                  // 3 blocks and the first one's shortcut
    {128, 56, 1}, {128, 28, 7},  {512, 28, 5},   // 4 blocks
    {256, 28, 1}, {256, 14, 11}, {1024, 14, 7},  // 6 blocks
    {512, 14, 1}, {512, 7, 5},   {2048, 7, 4},   // 3 blocks
};

constexpr Range<std::int64_t> size_range{.min = 1, .max = 1 << 30};
constexpr std::int64_t most_elements = std::int64_t{1} << 34;

[[noreturn]] void refuse(const std::string& text) {
  const std::string networks[] = {"resnet50"};
  throw UsageError(
      fmt::format("--shapes does not accept '{}' (accepted: resnet50, or shapes like "
                  "32x64x56x56: samples, channels, height, width).{}",
                  text, did_you_mean(text, networks)));
}

std::vector<std::int64_t> sizes_of(const std::string& text) {
  if (text.empty() || text.find_first_not_of("0123456789x") != std::string::npos) {
    refuse(text);
  }
  std::vector<std::int64_t> sizes;
  std::size_t begin = 0;
  for (;;) {
    const std::size_t end = text.find('x', begin);
    sizes.push_back(args::to_number("shapes", text.substr(begin, end - begin), size_range));
    if (end == std::string::npos) {
      return sizes;
    }
    begin = end + 1;
  }
}

LayerShape parse_shape(const std::string& text) {
  const std::vector<std::int64_t> sizes = sizes_of(text);
  if (sizes.size() < 2) {
    refuse(text);
  }
  std::int64_t elements = 1;
  for (const std::int64_t size : sizes) {
    if (size > most_elements / elements) {
      throw UsageError(fmt::format("--shapes has {}, more than 2^34 elements.", text));
    }
    elements *= size;
  }
  const Shape shape{sizes[0], sizes[1], elements / sizes[0] / sizes[1]};
  return {text, shape, 1};
}

}  // namespace

bool is_network(const std::string& text) {
  return text == "resnet50";
}

std::vector<LayerShape> parse_shapes(const std::string& text, std::int64_t batch) {
  std::vector<LayerShape> shapes;
  if (is_network(text)) {
    for (const auto& [channels, side, layers] : resnet50) {
      shapes.push_back({fmt::format("{}x{}x{}x{}", batch, channels, side, side),
                        {batch, channels, side * side},
                        layers});
    }
    return shapes;
  }
  for (const std::string& part : args::split(text)) {
    shapes.push_back(parse_shape(part));
  }
  return shapes;
}

}  // namespace syncbn::app::bench
