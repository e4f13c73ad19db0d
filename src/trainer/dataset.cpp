// SPDX-License-Identifier: Apache-2.0
#include "trainer/dataset.hpp"

#include <algorithm>
#include <cmath>
#include <system_error>
#include <utility>
#include <zlib.h>

#include <fmt/format.h>

#include "syncbn/error.hpp"

namespace syncbn::trainer {
namespace {

std::filesystem::path find(const std::filesystem::path& directory, const std::string& name) {
  for (const std::string& candidate : {name + ".gz", name}) {
    std::error_code error;
    const std::filesystem::file_status status =
        std::filesystem::status(directory / candidate, error);
    if (std::filesystem::exists(status)) {
      return directory / candidate;
    }
    if (status.type() != std::filesystem::file_type::not_found) {
      throw FileError(fmt::format("{} cannot be looked up in {} ({}). May this user read it?",
                                  candidate, directory.string(), error.message()));
    }
  }
  throw FileError(fmt::format(
      "no {0} or {0}.gz in {1} (a data set in MNIST's format has it). "
      "Give its directory with --data, or install Debian's package dataset-fashion-mnist?",
      name, directory.string()));
}

/// Holds the files of a training or test part, their headers read.
struct Part {
  IdxReader images;
  IdxReader labels;
};

Part open_part(const std::filesystem::path& directory, const std::string& name) {
  return {IdxReader(find(directory, name + "-images-idx3-ubyte"), 3),
          IdxReader(find(directory, name + "-labels-idx1-ubyte"), 1)};
}

}  // namespace

Dataset::Dataset(IdxReader images, IdxReader labels)
    : size_(images.shape()[0]), height_(images.shape()[1]), width_(images.shape()[2]) {
  if (labels.shape()[0] != size_) {
    throw FileError(fmt::format("{} has {} labels ({} has {} images). Do they belong together?",
                                labels.path().string(), labels.shape()[0], images.path().string(),
                                size_));
  }
  labels_ = labels.values();
  pixels_ = images.values();
}

std::int64_t Dataset::classes() const {
  return std::int64_t{1} + *std::max_element(labels_.begin(), labels_.end());
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
  Part train = open_part(directory, "train");
  Part test = open_part(directory, "t10k");
  const std::vector<std::int64_t>& train_shape = train.images.shape();
  const std::vector<std::int64_t>& test_shape = test.images.shape();
  if (!std::equal(train_shape.begin() + 1, train_shape.end(), test_shape.begin() + 1)) {
    throw FileError(fmt::format("{}: test images are {}x{} (training images are {}x{})",
                                directory.string(), test_shape[1], test_shape[2], train_shape[1],
                                train_shape[2]));
  }
  return {Dataset(std::move(train.images), std::move(train.labels)),
          Dataset(std::move(test.images), std::move(test.labels))};
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
