// SPDX-License-Identifier: Apache-2.0
#include "trainer/idx_files.hpp"

#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <stdlib.h>
#include <zlib.h>

namespace syncbn::test {
namespace {

void write_part(const std::filesystem::path& directory, const std::string& part,
                std::uint32_t images, std::uint32_t side, std::uint32_t classes,
                std::mt19937_64& random, Compression compression) {
  Bytes pixels, labels;
  for (std::uint32_t image = 0; image < images; ++image) {
    const auto label = static_cast<std::uint8_t>(random() % classes);
    labels.push_back(label);
    for (std::uint32_t pixel = 0; pixel < side * side; ++pixel) {
      const bool stripe = pixel % side == label % side || pixel / side == (label * 7U) % side;
      pixels.push_back(static_cast<std::uint8_t>(stripe ? 200 + random() % 50 : random() % 30));
    }
  }
  const std::string suffix = compression == Compression::gzip ? ".gz" : "";
  write_file(directory / (part + "-images-idx3-ubyte" + suffix),
             idx_bytes({images, side, side}, pixels), compression);
  write_file(directory / (part + "-labels-idx1-ubyte" + suffix), idx_bytes({images}, labels),
             compression);
}

}  // namespace

Bytes idx_bytes(const std::vector<std::uint32_t>& shape, const Bytes& values) {
  Bytes bytes{0, 0, 8, static_cast<std::uint8_t>(shape.size())};
  for (const std::uint32_t extent : shape) {
    for (const int shift : {24, 16, 8, 0}) {
      bytes.push_back(static_cast<std::uint8_t>(extent >> shift));
    }
  }
  bytes.insert(bytes.end(), values.begin(), values.end());
  return bytes;
}

void write_file(const std::filesystem::path& file, const Bytes& bytes, Compression compression) {
  const char* mode = compression == Compression::gzip ? "wb1" : "wbT";
  gzFile out = gzopen(file.c_str(), mode);
  if (out == nullptr) {
    throw std::runtime_error("cannot write " + file.string());
  }
  if (!bytes.empty()) {
    gzwrite(out, bytes.data(), static_cast<unsigned>(bytes.size()));
  }
  gzclose(out);
}

Bytes read_bytes(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), {});
}

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "syncbn-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) {
    throw std::runtime_error("cannot make a temporary directory");
  }
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_data_set(const std::filesystem::path& directory, std::uint32_t train, std::uint32_t test,
                    std::uint32_t side, std::uint64_t seed, std::uint32_t classes) {
  std::mt19937_64 random(seed);
  write_part(directory, "train", train, side, classes, random, Compression::gzip);
  write_part(directory, "t10k", test, side, classes, random, Compression::none);
}

}  // namespace syncbn::test
