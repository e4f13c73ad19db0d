// SPDX-License-Identifier: Apache-2.0
#include "bn/options.hpp"

#include <array>
#include <atomic>
#include <charconv>
#include <locale>
#include <sstream>
#include <string_view>

#include "syncbn/error.hpp"

#include "bn/validate.hpp"

namespace syncbn::bn {

std::int64_t validated(std::int64_t channels, const BatchNormOptions& options) {
  const std::string layer = "layer '" + options.name + "': ";
  if (channels < 1 || channels > Shape::most_channels) {
    throw InvalidArgument(layer + std::to_string(channels) +
                          " channels (at least 1 and at most 2^40)");
  }
  require_eps(options.eps, layer);
  if (options.momentum && !(*options.momentum >= 0 && *options.momentum <= 1)) {
    throw InvalidArgument(layer + "momentum = " + std::to_string(*options.momentum) +
                          " (between 0 and 1, or none for the average of all batches)");
  }
  if (options.channel_blocks < 0) {
    throw InvalidArgument(layer + "channel_blocks = " + std::to_string(options.channel_blocks) +
                          " (at least 1, or 0 for as many as suit the cache)");
  }
  require_slope(options.activation);
  return channels;
}

std::uint64_t new_layer_number() {
  static std::atomic<std::uint64_t> given{0};
  return ++given;
}

std::string to_text(const BatchNormOptions& options) {
  std::ostringstream text;
  text.imbue(std::locale::classic());  // the same on ranks of different locales
  const auto number = [&](double value) {
    std::array<char, 32> digits{};  // the fewest that read back as this number
    text << std::string_view(digits.data(), std::to_chars(digits.begin(), digits.end(), value).ptr);
  };
  text << "eps ";
  number(options.eps);
  if (options.momentum) {
    text << ", momentum ";
    number(*options.momentum);
  } else {
    text << ", average of all batches";
  }
  if (options.activation.negative_slope != 1) {
    text << ", slope ";
    number(options.activation.negative_slope);
  }
  text << (options.affine ? "" : ", not affine")
       << (options.track_running_stats ? "" : ", untracked")
       << (options.parameter_gradients == GradientScope::group ? ", group's gradients" : "")
       << (options.reproducibility == Reproducibility::exact ? ", exact" : "")
       << (options.affine && !options.compare_parameters ? ", own parameters" : "");
  if (options.channel_blocks != 0) {
    text << ", " << options.channel_blocks << (options.channel_blocks == 1 ? " block" : " blocks");
  }
  return text.str();
}

}  // namespace syncbn::bn
