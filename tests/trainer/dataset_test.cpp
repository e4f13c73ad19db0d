// SPDX-License-Identifier: Apache-2.0
#include "trainer/dataset.hpp"

#include <cmath>
#include <functional>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "trainer/idx_files.hpp"

namespace syncbn::trainer {
namespace {

using test::Bytes;
using test::idx_bytes;
using test::TemporaryDirectory;
using test::write_data_set;
using test::write_file;
using testing::AllOf;
using testing::HasSubstr;

class DatasetFiles : public testing::Test {
 protected:
  DatasetFiles() {
    write_file(images_, idx_bytes({3, 1, 2}, {0, 10, 20, 30, 40, 255}));
    write_file(labels_, idx_bytes({3}, {0, 9, 5}));
  }

  Dataset open() const { return {{images_, 3}, {labels_, 1}}; }

  TemporaryDirectory directory_;
  std::filesystem::path images_ = directory_ / "images";
  std::filesystem::path labels_ = directory_ / "labels";
};

TEST_F(DatasetFiles, GiveImagesAndLabels) {
  const Dataset data = open();
  EXPECT_EQ(data.size(), 3);
  EXPECT_EQ(data.height(), 1);
  EXPECT_EQ(data.width(), 2);
  EXPECT_THAT(data.labels(), testing::ElementsAre(0, 9, 5));
  std::array<float, 256> halves;
  for (std::size_t i = 0; i < halves.size(); ++i) {
    halves[i] = static_cast<float>(i) / 2;
  }
  std::array<float, 2> pixels;
  data.image(2, halves, pixels.data());
  EXPECT_THAT(pixels, testing::ElementsAre(20.0F, 127.5F));
}

TEST_F(DatasetFiles, HaveAsManyClassesAsTheLargestLabelSays) {
  EXPECT_EQ(open().classes(), 10);
  write_file(labels_, idx_bytes({3}, {0, 46, 5}));
  EXPECT_EQ(open().classes(), 47);
  write_file(labels_, idx_bytes({3}, {255, 46, 5}));
  EXPECT_EQ(open().classes(), 256);
}

/// The images of which there are too many would take all of the memory.
TEST_F(DatasetFiles, OfDifferentLengthAreRefusedByTheirHeaders) {
  write_file(images_, idx_bytes({60'000'000, 28, 28}, {}));
  EXPECT_THAT(test::failure_of<FileError>([&] { open(); }),
              AllOf(HasSubstr("3 labels"), HasSubstr("60000000 images")));
  write_file(images_, idx_bytes({3, 1, 2}, {0, 10, 20, 30, 40, 255}));
  write_file(labels_, idx_bytes({2}, {0, 9}));
  EXPECT_THAT(test::failure_of<FileError>([&] { open(); }),
              AllOf(HasSubstr("2 labels"), HasSubstr("3 images")));
}

TEST_F(DatasetFiles, DifferInTheirChecksum) {
  const std::uint32_t before = open().checksum();
  EXPECT_EQ(open().checksum(), before);
  write_file(labels_, idx_bytes({3}, {0, 8, 5}));
  EXPECT_NE(open().checksum(), before);
}

TEST_F(DatasetFiles, AreScaledToUnitDeviation) {
  const Dataset data = open();
  const std::array<float, 256> value_of = grey_scale(data);
  EXPECT_EQ(value_of[0], 0.0F);
  double sum = 0, squares = 0;
  for (const std::size_t grey : {0, 10, 20, 30, 40, 255}) {
    sum += value_of[grey];
    squares += value_of[grey] * value_of[grey];
  }
  EXPECT_NEAR(squares / 6 - std::pow(sum / 6, 2), 1, 1e-6);
}

TEST(DataDirectory, MayHoldGzippedAndPlainFiles) {
  const TemporaryDirectory directory;
  write_data_set(directory.path(), 20, 5, 8);
  const Split split = load_split(directory.path());
  EXPECT_EQ(split.train.size(), 20);
  EXPECT_EQ(split.test.size(), 5);
}

TEST(DataDirectory, HasTheClassesOfBothParts) {
  const TemporaryDirectory directory;
  write_data_set(directory.path(), 200, 5, 8, 1, 47);
  write_file(directory / "t10k-labels-idx1-ubyte", idx_bytes({5}, {1, 2, 60, 4, 5}));
  EXPECT_EQ(load_split(directory.path()).classes(), 61);
}

/// Runs `body` as a user whom permissions bind.
void without_privileges(const std::function<void()>& body) {
  const bool privileged = ::geteuid() == 0;
  constexpr uid_t nobody = 65534;
  if (privileged) {
    ASSERT_EQ(::seteuid(nobody), 0);
  }
  body();
  if (privileged) {
    ASSERT_EQ(::seteuid(0), 0);
  }
}

TEST(DataDirectory, ThatMayNotBeReadIsNotToldAsMissing) {
  const TemporaryDirectory directory;
  write_data_set(directory.path(), 20, 5, 8);
  std::filesystem::permissions(directory.path(), std::filesystem::perms::none);
  without_privileges([&] {
    EXPECT_THAT(test::failure_of<FileError>([&] { load_split(directory.path()); }),
                AllOf(HasSubstr("Permission denied"), HasSubstr(directory.path().string())));
  });
  std::filesystem::permissions(directory.path(), std::filesystem::perms::owner_all);
}

TEST(DataDirectory, ThatLacksAFileIsRefused) {
  const TemporaryDirectory directory;
  write_data_set(directory.path(), 20, 5, 8);
  std::filesystem::remove(directory / "t10k-labels-idx1-ubyte");
  EXPECT_THAT(test::failure_of<FileError>([&] { load_split(directory.path()); }),
              AllOf(HasSubstr("t10k-labels-idx1-ubyte"), HasSubstr(directory.path().string())));
}

TEST(DataDirectory, WithImagesOfTwoSizesIsRefusedByTheHeaders) {
  const TemporaryDirectory directory, other;
  write_data_set(directory.path(), 20, 5, 8);
  write_data_set(other.path(), 20, 5, 9);
  std::filesystem::rename(other / "t10k-images-idx3-ubyte", directory / "t10k-images-idx3-ubyte");
  EXPECT_THAT(test::failure_of<FileError>([&] { load_split(directory.path()); }), HasSubstr("9x9"));
}

}  // namespace
}  // namespace syncbn::trainer
