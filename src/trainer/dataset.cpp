// SPDX-License-Identifier: Apache-2.0
#include "trainer/dataset.hpp"

#include <algorithm>
#include <cmath>
#include <zlib.h>

#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "trainer/idx.hpp"

namespace syncbn::trainer {
namespace {

std::filesystem::path find(const std::filesystem::path& directory, const std::string& name) {
  for (const std::string& candidate : {name + ".gz", name}) {
    std::error_code ignored;
    if (std::filesystem::exists(directory / candidate, ignored)) {
      return directory / candidate;
    }
  }
  throw FileError(
      fmt::format("no {0} or {0}.gz in {1} (a data set in MNIST's format has it). "
                  "Give its directory with --data, or install dataset-fashion-mnist?",
                  name, directory.string()));
}

Dataset load_part(const std::filesystem::path& directory, const std::string& part) {
  const std::filesystem::path images = find(directory, part + "-images-idx3-ubyte");
  return Dataset(images, find(directory, part + "-labels-idx1-ubyte"));
}

}  // namespace

Dataset::Dataset(const std::filesystem::path& images, const std::filesystem::path& labels) {
  Idx pixels = load_idx(images, 3);
  size_ = pixels.shape[0];
  height_ = pixels.shape[1];
  width_ = pixels.shape[2];
  pixels_ = std::move(pixels.values);
  labels_ = load_idx(labels, 1).values;
  if (static_cast<std::int64_t>(labels_.size()) != size_) {
    throw FileError(fmt::format("{} has {} labels ({} has {} images). Do they belong together?",
                                labels.string(), labels_.size(), images.string(), size_));
  }
  const auto bad = std::find_if(labels_.begin(), labels_.end(),
                                [](std::uint8_t label) { return label >= classes; });
  if (bad != labels_.end()) {
    throw FileError(fmt::format("{} has label {} at {} (labels are 0 to {})", labels.string(), *bad,
                                bad - labels_.begin(), classes - 1));
  }
}

std::array<std::int64_t, 256> Dataset::histogram() const {
  std::array<std::int64_t, 256> counts{};
  for (const std::uint8_t pixel : pixels_) {
    ++counts[pixel];
  }
  return counts;
}

std::uint32_t Dataset::checksum() const {
  const auto crc = crc32_z(0, pixels_.data(), pixels_.size());
  return static_cast<std::uint32_t>(crc32_z(crc, labels_.data(), labels_.size()));
}

void Dataset::image(std::int64_t sample, std::span<const float, 256> value_of, float* out) const {
  const std::uint8_t* pixels = pixels_.data() + sample * height_ * width_;
  std::transform(pixels, pixels + height_ * width_, out,
                 [&](std::uint8_t pixel) { return value_of[pixel]; });
}

Split load_split(const std::filesystem::path& directory) {
  Split split{load_part(directory, "train"), load_part(directory, "t10k")};
  if (split.test.height() != split.train.height() || split.test.width() != split.train.width()) {
    throw FileError(fmt::format("{}: test images are {}x{} (training images are {}x{})",
                                directory.string(), split.test.height(), split.test.width(),
                                split.train.height(), split.train.width()));
  }
  return split;
}

std::array<float, 256> grey_scale(const Dataset& data) {
  const std::array<std::int64_t, 256> counts = data.histogram();
  double n = 0, sum = 0, squares = 0;  // integers, exact
  for (std::size_t value = 0; value < counts.size(); ++value) {
    const auto count = static_cast<double>(counts[value]);
    const auto grey = static_cast<double>(value);
    n += count;
    sum += count * grey;
    squares += count * grey * grey;
  }
  const double mean = sum / n;
  const double variance = squares / n - mean * mean;
  const double scale = variance > 0 ? 1 / std::sqrt(variance) : 1;
  std::array<float, 256> value_of;
  for (std::size_t value = 0; value < value_of.size(); ++value) {
    value_of[value] = static_cast<float>(static_cast<double>(value) * scale);
  }
  return value_of;
}

}  // namespace syncbn::trainer
