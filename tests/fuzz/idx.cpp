// SPDX-License-Identifier: Apache-2.0
//
// The input is a data set, the four files one after the other with "|\n" between them. It is
// refused with a FileError, or every image and label can be looked at.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "syncbn/error.hpp"

#include "fuzz/expect.hpp"
#include "fuzz/memory_directory.hpp"
#include "fuzz/target.hpp"
#include "trainer/dataset.hpp"

namespace syncbn::fuzz {
namespace {

void look_at(const trainer::Dataset& data, std::span<const float, 256> grey) {
  expect(static_cast<std::int64_t>(data.labels().size()) == data.size(), "a label for each image");
  std::vector<float> pixels(static_cast<std::size_t>(data.height() * data.width()));
  for (const std::int64_t sample : {std::int64_t{0}, data.size() - 1}) {
    data.image(sample, grey, pixels.data());
  }
  data.checksum();
}

}  // namespace

void run(std::string_view input) {
  static const MemoryDirectory directory;
  for (const char* name : {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                           "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}) {
    directory.write(name, next_part(input, "|\n"));
  }
  try {
    const trainer::Split split = trainer::load_split(directory.path());
    const std::array<float, 256> grey = trainer::grey_scale(split.train);
    expect(std::ranges::is_sorted(grey), "more grey is more");
    look_at(split.train, grey);
    look_at(split.test, grey);
  } catch (const FileError&) {
  }
}

}  // namespace syncbn::fuzz
