// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <fstream>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"
#include "syncbn/state.hpp"

#include "support/scratch_directory.hpp"

namespace syncbn {
namespace {

using test::ScratchDirectory;
using testing::HasSubstr;

StateDict example() {
  StateDict state;
  state.tensors["a.weight"] = StateTensor::from(std::vector<double>{1.5, -0.0, 1e-310});
  state.tensors["b"] = StateTensor::from(std::vector<float>{1, 2});
  state.tensors["empty"] = StateTensor::from(std::vector<float>{});
  state.tensors["steps"] = StateTensor::from(std::int64_t{1} << 40);
  state.tensors["mask"] = {StateDType::boolean, {3, 1}, std::vector<std::byte>(3)};
  state.tensors["name \"quoted\" \u00e9"] = StateTensor::from(std::vector<float>{3});
  state.metadata["format"] = "pt";
  return state;
}

/// A file made of a header's text and data bytes.
std::string file_of(const std::string& header, const std::string& data = "") {
  const std::uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  return bytes + header + data;
}

class Safetensors : public testing::Test {
 protected:
  std::string failure_of(const std::string& bytes) {
    const auto path = scratch_ / "file.safetensors";
    std::ofstream(path, std::ios::binary) << bytes;
    try {
      load_safetensors(path);
    } catch (const FileError& error) {
      EXPECT_THAT(error.what(), HasSubstr("file.safetensors"));
      return error.what();
    }
    return "nothing thrown";
  }

  std::string read(const std::filesystem::path& path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  ScratchDirectory scratch_;
};

TEST_F(Safetensors, RoundTrip) {
  save_safetensors(example(), scratch_ / "x");
  EXPECT_EQ(load_safetensors(scratch_ / "x"), example());
}

TEST_F(Safetensors, IsTheFormatByHand) {
  // One f32 tensor [2, 1], bytes as the format's description gives them.
  const std::string header =
      R"({"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"__metadata__":{"k":"v"}})";
  const float values[] = {1.0F, -2.0F};
  std::ofstream(scratch_ / "x", std::ios::binary)
      << file_of(header, std::string(reinterpret_cast<const char*>(values), sizeof values));
  const StateDict state = load_safetensors(scratch_ / "x");
  EXPECT_EQ(state.tensors.at("w").shape, (std::vector<std::int64_t>{2, 1}));
  EXPECT_THAT(state.tensors.at("w").as_doubles("w"), testing::ElementsAre(1, -2));
  EXPECT_EQ(state.metadata.at("k"), "v");
}

TEST_F(Safetensors, SavesTheSameStateAsTheSameBytes) {
  save_safetensors(example(), scratch_ / "x");
  save_safetensors(example(), scratch_ / "y");
  EXPECT_EQ(read(scratch_ / "x"), read(scratch_ / "y"));
}

TEST_F(Safetensors, EveryTruncationIsRefused) {
  save_safetensors(example(), scratch_ / "x");
  const std::string whole = read(scratch_ / "x");
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_NE(failure_of(whole.substr(0, length)), "nothing thrown") << length << " bytes";
  }
  EXPECT_THAT(failure_of(whole + "x"), HasSubstr("1 bytes follow"));
}

TEST_F(Safetensors, FlippedHeaderBitsNeverCrash) {
  save_safetensors(example(), scratch_ / "x");
  const std::string whole = read(scratch_ / "x");
  std::mt19937 random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    std::string damaged = whole;
    damaged[random() % (damaged.size() - 45)] ^= static_cast<char>(1 << random() % 8);
    failure_of(damaged);  // read or refused with a FileError
  }
}

TEST_F(Safetensors, SaysWhatIsWrong) {
  EXPECT_THAT(failure_of("abc"), HasSubstr("has 3 bytes"));
  EXPECT_THAT(failure_of(std::string(8, '\xff')), HasSubstr("header should have"));
  EXPECT_THAT(failure_of(file_of("{")), HasSubstr("does not parse"));
  EXPECT_THAT(failure_of(file_of("[]")), HasSubstr("no JSON object"));
  EXPECT_THAT(failure_of(file_of(R"({"w":{"dtype":"F99","shape":[],"data_offsets":[0,0]}})")),
              HasSubstr("unknown type \"F99\""));
  EXPECT_THAT(
      failure_of(file_of(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "1234")),
      HasSubstr("shape that does not fit"));
  EXPECT_THAT(
      failure_of(file_of(R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "1234")),
      HasSubstr("shape that does not fit"));
  EXPECT_THAT(
      failure_of(file_of(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "1234")),
      HasSubstr("data_offsets"));
  EXPECT_THAT(
      failure_of(file_of(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "12345678")),
      HasSubstr("leaves a gap"));
  EXPECT_THAT(failure_of(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                 R"("b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                                 "1234")),
              HasSubstr("overlaps"));
  EXPECT_THAT(
      failure_of(file_of(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "12")),
      HasSubstr("cut off"));
  for (const char* odd : {R"({"w":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})",
                          R"({"w":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}})",
                          R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0.5,4]}})",
                          R"({"w":{"dtype":"F32","shape":{"x":1},"data_offsets":[0,4]}})"}) {
    EXPECT_THAT(failure_of(file_of(odd, "1234")), HasSubstr("something else than whole numbers"));
  }
  EXPECT_THAT(failure_of(file_of(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                 R"("w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                                 "1234")),
              HasSubstr("\"w\" twice"));
  EXPECT_THAT(failure_of(file_of(" {}")), HasSubstr("no JSON object"));
  EXPECT_THAT(failure_of(file_of(R"({"w":{"shape":[1],"data_offsets":[0,4]}})", "1234")),
              HasSubstr("dtype"));
  EXPECT_THAT(failure_of(file_of(
                  R"({"w":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,0]}})")),
              HasSubstr("shape that does not fit"));
}

TEST_F(Safetensors, ADirectoryIsNoFile) {
  EXPECT_THROW(load_safetensors(scratch_.path()), FileError);
  EXPECT_THROW(save_safetensors(example(), scratch_ / "none" / "x"), FileError);
}

TEST_F(Safetensors, NamesThatAreNoTextAreNotSaved) {
  StateDict state;
  state.tensors["\xff\xfe"] = StateTensor::from(std::vector<float>{1});
  EXPECT_THROW(save_safetensors(state, scratch_ / "x"), InvalidArgument);
}

TEST_F(Safetensors, InconsistentStateIsNotSaved) {
  StateDict state = example();
  state.tensors["b"].shape = {3};
  EXPECT_THROW(save_safetensors(state, scratch_ / "x"), InvalidArgument);
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "x"));
}

}  // namespace
}  // namespace syncbn
