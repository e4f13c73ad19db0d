// SPDX-License-Identifier: Apache-2.0
#include "trainer/idx.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <string>
#include <unistd.h>
#include <utility>
#include <zlib.h>

#include <fmt/format.h>
#include <sys/stat.h>

#include "syncbn/error.hpp"

namespace syncbn::trainer {
namespace {

constexpr std::uint32_t unsigned_bytes = 0x08;  ///< third byte of the magic number
constexpr std::int64_t most_values = std::int64_t{1} << 36;
constexpr std::size_t piece = std::size_t{1} << 20;  ///< read at once [B]

struct CloseGzip {
  void operator()(gzFile file) const noexcept { gzclose(file); }
};

/// Opens a regular file for reading, and refuses others. Opening a pipe would wait for its writer,
/// and reading it for its end.
int open_regular(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    throw FileError(fmt::format("{} cannot be opened ({})", path.string(), std::strerror(errno)));
  }
  struct stat status;
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    throw FileError(
        fmt::format("{} cannot be read (it is not a regular file). Put the data into "
                    "files?",
                    path.string()));
  }
  return fd;
}

}  // namespace

/// Reads a file front to back; zlib passes plain files through as they are.
class IdxReader::Stream {
 public:
  explicit Stream(const std::filesystem::path& path) : path_(path) {
    const int fd = open_regular(path);
    file_.reset(gzdopen(fd, "rb"));
    if (!file_) {
      ::close(fd);
      throw std::bad_alloc();
    }
    gzbuffer(file_.get(), 1 << 17);
  }

  const std::filesystem::path& path() const { return path_; }

  /// Reads up to `bytes` bytes and returns how many; fewer only at the end of the file.
  std::size_t read(std::uint8_t* data, std::size_t bytes) {
    const int got = gzread(file_.get(), data, static_cast<unsigned>(bytes));
    if (const std::string why = problem(); got < 0 || !why.empty()) {
      throw FileError(fmt::format("{} is damaged ({}). Fetch it again?", path_.string(), why));
    }
    return static_cast<std::size_t>(got);
  }

  std::uint32_t read_word();
  std::vector<std::int64_t> read_shape(int axes);
  std::vector<std::uint8_t> read_values(std::size_t count);

  [[noreturn]] void refuse(const std::string& problem) const {
    throw FileError(
        fmt::format("{} {}. Is it the right file, and complete?", path_.string(), problem));
  }

 private:
  /// Returns what zlib says is wrong, without "<fd:3>: " in front; "" if all is well.
  std::string problem() const {
    int code = Z_OK;
    std::string text = gzerror(file_.get(), &code);
    if (code == Z_ERRNO) {
      return std::strerror(errno);
    }
    if (text.starts_with("<fd:")) {
      text.erase(0, text.find(": ") + 2);
    }
    return code == Z_OK ? "" : text;
  }

  std::filesystem::path path_;
  std::unique_ptr<gzFile_s, CloseGzip> file_;
};

std::uint32_t IdxReader::Stream::read_word() {
  std::array<std::uint8_t, 4> bytes{};
  if (read(bytes.data(), bytes.size()) != bytes.size()) {
    refuse("ends within the IDX header");
  }
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 |
         std::uint32_t{bytes[2]} << 8 | std::uint32_t{bytes[3]};
}

std::vector<std::int64_t> IdxReader::Stream::read_shape(int axes) {
  const std::uint32_t wanted = unsigned_bytes << 8 | static_cast<std::uint32_t>(axes);
  if (const std::uint32_t magic = read_word(); magic != wanted) {
    refuse(fmt::format("begins with {:#010x} (an IDX file of {} begins with {:#010x})", magic,
                       axes == 1 ? "labels" : "images", wanted));
  }
  std::vector<std::int64_t> shape;
  std::int64_t values = 1;
  for (int axis = 0; axis < axes; ++axis) {
    shape.push_back(read_word());
    if (shape.back() == 0) {
      refuse(fmt::format("has no data (axis {} has length 0)", axis));
    }
    if (values > most_values / shape.back()) {
      refuse(fmt::format("claims more than {} values", most_values));
    }
    values *= shape.back();
  }
  return shape;
}

/// Grows the result as data come in, so that a header which lies about the length costs no memory.
std::vector<std::uint8_t> IdxReader::Stream::read_values(std::size_t count) {
  std::vector<std::uint8_t> values;
  while (values.size() < count) {
    const std::size_t had = values.size();
    const std::size_t wanted = std::min(piece, count - had);
    values.resize(had + wanted);
    const std::size_t got = read(values.data() + had, wanted);
    if (got < wanted) {
      refuse(fmt::format("ends after {} of the {} values its header announces", had + got, count));
    }
  }
  std::uint8_t beyond = 0;
  if (read(&beyond, 1) != 0) {
    refuse(fmt::format("goes on after the {} values its header announces", count));
  }
  return values;
}

IdxReader::IdxReader(const std::filesystem::path& file, int axes)
    : stream_(std::make_unique<Stream>(file)), shape_(stream_->read_shape(axes)) {}

IdxReader::IdxReader(IdxReader&&) noexcept = default;
IdxReader::~IdxReader() = default;

const std::filesystem::path& IdxReader::path() const {
  return stream_->path();
}

std::vector<std::uint8_t> IdxReader::values() {
  std::size_t count = 1;
  for (const std::int64_t extent : shape_) {
    count *= static_cast<std::size_t>(extent);
  }
  try {
    return stream_->read_values(count);
  } catch (const std::bad_alloc&) {
    throw FileError(fmt::format(
        "{} cannot be read (memory ran out: its values are {} bytes, on every rank). Run fewer "
        "ranks on a host, or take a smaller data set.",
        path().string(), count));
  }
}

}  // namespace syncbn::trainer
