// SPDX-License-Identifier: Apache-2.0
#include "trainer/idx.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "trainer/idx_files.hpp"

namespace syncbn::trainer {
namespace {

using test::Bytes;
using test::Compression;
using test::idx_bytes;
using test::TemporaryDirectory;
using test::write_file;
using testing::HasSubstr;

const Bytes twelve{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255};

class IdxFile : public testing::TestWithParam<Compression> {
 protected:
  /// What loading a file of these bytes is refused with; "" if it is not.
  std::string refusal(const Bytes& bytes, int axes = 3) {
    write_file(file_, bytes, GetParam());
    return refusal_of_file(axes);
  }

  std::string refusal_of_file(int axes = 3) {
    const std::string why = test::failure_of<FileError>([&] { IdxReader(file_, axes).values(); });
    EXPECT_THAT(why, HasSubstr(file_.string()));
    return why;
  }

  TemporaryDirectory directory_;
  std::filesystem::path file_ = directory_ / "some-idx-ubyte";
};

TEST_P(IdxFile, IsReadWhole) {
  write_file(file_, idx_bytes({3, 2, 2}, twelve), GetParam());
  IdxReader reader(file_, 3);
  EXPECT_EQ(reader.shape(), (std::vector<std::int64_t>{3, 2, 2}));
  EXPECT_EQ(reader.values(), twelve);
}

TEST_P(IdxFile, OfAnotherKindIsRefused) {
  EXPECT_THAT(refusal(idx_bytes({12}, twelve), 3), HasSubstr("begins with 0x00000801"));
  EXPECT_THAT(refusal(idx_bytes({3, 2, 2}, twelve), 1), HasSubstr("begins with 0x00000803"));
  Bytes floats = idx_bytes({3, 2, 2}, twelve);
  floats[2] = 0x0d;
  EXPECT_THAT(refusal(floats), HasSubstr("begins with 0x00000d03"));
}

TEST_P(IdxFile, ThatEndsTooSoonIsRefused) {
  const Bytes whole = idx_bytes({3, 2, 2}, twelve);
  for (const std::size_t length : {0U, 3U, 15U}) {
    EXPECT_THAT(refusal(Bytes(whole.begin(), whole.begin() + static_cast<int>(length))),
                HasSubstr("ends within the IDX header"));
  }
  EXPECT_THAT(refusal(Bytes(whole.begin(), whole.end() - 1)), HasSubstr("ends after 11 of the 12"));
}

TEST_P(IdxFile, ThatGoesOnIsRefused) {
  Bytes longer = idx_bytes({3, 2, 2}, twelve);
  longer.push_back(0);
  EXPECT_THAT(refusal(longer), HasSubstr("goes on after the 12 values"));
}

TEST_P(IdxFile, WithImpossibleSizesIsRefused) {
  EXPECT_THAT(refusal(idx_bytes({0, 28, 28}, {})), HasSubstr("has no data"));
  EXPECT_THAT(refusal(idx_bytes({0xffffffff, 0xffffffff, 0xffffffff}, twelve)),
              HasSubstr("claims more than"));
  // Within the limit, but not in the file: refused without taking the memory.
  EXPECT_THAT(refusal(idx_bytes({60'000'000, 28, 28}, twelve)), HasSubstr("ends after 12 of the"));
}

TEST_P(IdxFile, ThatIsMissingIsRefused) {
  EXPECT_THAT(refusal_of_file(), HasSubstr("No such file"));
}

/// Which waits for its writer when it is opened, or has no end.
TEST_P(IdxFile, ThatIsNoRegularFileIsRefusedAtOnce) {
  const std::filesystem::path file = file_;
  for (const std::filesystem::path& other :
       {directory_.path(), std::filesystem::path("/dev/zero")}) {
    file_ = other;
    EXPECT_THAT(refusal_of_file(), HasSubstr("not a regular file")) << other;
  }
  file_ = file;
  ASSERT_EQ(::mkfifo(file_.c_str(), 0600), 0);
  EXPECT_THAT(refusal_of_file(), HasSubstr("not a regular file"));
}

INSTANTIATE_TEST_SUITE_P(Compression, IdxFile,
                         testing::Values(Compression::none, Compression::gzip),
                         [](const auto& about) {
                           return about.param == Compression::gzip ? "gzipped" : "plain";
                         });

/// A gzipped file of random bytes, which do not compress, so that its damage is somewhere in them.
TEST(GzippedIdxFile, ThatIsDamagedIsRefused) {
  const TemporaryDirectory directory;
  Bytes values(10'000);
  std::uint32_t state = 1;
  for (std::uint8_t& value : values) {
    state = state * 1664525 + 1013904223;
    value = static_cast<std::uint8_t>(state >> 24);
  }
  write_file(directory / "good", idx_bytes({100, 10, 10}, values), Compression::gzip);
  const Bytes good = test::read_bytes(directory / "good");
  EXPECT_NO_THROW(IdxReader(directory / "good", 3).values());

  for (const std::size_t cut : {std::size_t{1}, std::size_t{9}, good.size() / 2}) {
    write_file(directory / "cut", Bytes(good.begin(), good.end() - static_cast<int>(cut)));
    EXPECT_THROW(IdxReader(directory / "cut", 3).values(), FileError) << cut << " bytes cut off";
  }
  for (const std::size_t at : {good.size() / 3, good.size() / 2, good.size() - 5}) {
    Bytes flipped = good;
    flipped[at] ^= 0x40;
    write_file(directory / "flipped", flipped);
    EXPECT_THROW(IdxReader(directory / "flipped", 3).values(), FileError)
        << "a bit flipped in byte " << at;
  }
}

}  // namespace
}  // namespace syncbn::trainer
