// SPDX-License-Identifier: Apache-2.0
#include "trainer/idx.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <zlib.h>

#include <fmt/format.h>

#include "syncbn/error.hpp"

namespace syncbn::trainer {
namespace {

constexpr std::uint32_t unsigned_bytes = 0x08;  ///< third byte of the magic number
constexpr std::int64_t most_values = std::int64_t{1} << 36;
constexpr std::size_t piece = std::size_t{1} << 20;  ///< read at once [B]

struct CloseGzip {
  void operator()(gzFile file) const noexcept { gzclose(file); }
};

/// A file read front to back; zlib passes plain files through as they are.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& path)
      : path_(path), file_(gzopen(path.c_str(), "rb")) {
    if (!file_) {
      throw FileError(
          fmt::format("{} cannot be opened ({})", path_.string(), std::strerror(errno)));
    }
    gzbuffer(file_.get(), 1 << 17);
  }

  /// Up to `bytes` of them; fewer only at the end of the file.
  std::size_t read(std::uint8_t* data, std::size_t bytes) {
    const int got = gzread(file_.get(), data, static_cast<unsigned>(bytes));
    if (const std::string why = problem(); got < 0 || !why.empty()) {
      throw FileError(fmt::format("{} is damaged ({}). Fetch it again?", path_.string(), why));
    }
    return static_cast<std::size_t>(got);
  }

  [[noreturn]] void refuse(const std::string& problem) const {
    throw FileError(
        fmt::format("{} {}. Is it the right file, and complete?", path_.string(), problem));
  }

 private:
  /// What zlib has to say, without the path in front; nothing if all is well.
  std::string problem() const {
    int code = Z_OK;
    std::string text = gzerror(file_.get(), &code);
    if (code == Z_ERRNO) {
      return std::strerror(errno);
    }
    if (const std::string prefix = path_.string() + ": "; text.starts_with(prefix)) {
      text.erase(0, prefix.size());
    }
    return code == Z_OK ? "" : text;
  }

  std::filesystem::path path_;
  std::unique_ptr<gzFile_s, CloseGzip> file_;
};

std::uint32_t read_word(Reader& reader) {
  std::array<std::uint8_t, 4> bytes{};
  if (reader.read(bytes.data(), bytes.size()) != bytes.size()) {
    reader.refuse("ends within the IDX header");
  }
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 |
         std::uint32_t{bytes[2]} << 8 | std::uint32_t{bytes[3]};
}

std::vector<std::int64_t> read_shape(Reader& reader, int axes) {
  const std::uint32_t wanted = unsigned_bytes << 8 | static_cast<std::uint32_t>(axes);
  if (const std::uint32_t magic = read_word(reader); magic != wanted) {
    reader.refuse(fmt::format("begins with {:#010x} (an IDX file of {} begins with {:#010x})",
                              magic, axes == 1 ? "labels" : "images", wanted));
  }
  std::vector<std::int64_t> shape;
  std::int64_t values = 1;
  for (int axis = 0; axis < axes; ++axis) {
    shape.push_back(read_word(reader));
    if (shape.back() == 0) {
      reader.refuse(fmt::format("has no data (axis {} has length 0)", axis));
    }
    if (values > most_values / shape.back()) {
      reader.refuse(fmt::format("claims more than {} values", most_values));
    }
    values *= shape.back();
  }
  return shape;
}

/// Grows as data come in, so that a header which lies about the length costs no memory.
std::vector<std::uint8_t> read_values(Reader& reader, std::size_t count) {
  std::vector<std::uint8_t> values;
  while (values.size() < count) {
    const std::size_t had = values.size();
    const std::size_t wanted = std::min(piece, count - had);
    values.resize(had + wanted);
    const std::size_t got = reader.read(values.data() + had, wanted);
    if (got < wanted) {
      reader.refuse(
          fmt::format("ends after {} of the {} values its header announces", had + got, count));
    }
  }
  std::uint8_t beyond = 0;
  if (reader.read(&beyond, 1) != 0) {
    reader.refuse(fmt::format("goes on after the {} values its header announces", count));
  }
  return values;
}

}  // namespace

Idx load_idx(const std::filesystem::path& file, int axes) {
  Reader reader(file);
  Idx idx;
  idx.shape = read_shape(reader, axes);
  std::size_t count = 1;
  for (const std::int64_t extent : idx.shape) {
    count *= static_cast<std::size_t>(extent);
  }
  idx.values = read_values(reader, count);
  return idx;
}

}  // namespace syncbn::trainer
