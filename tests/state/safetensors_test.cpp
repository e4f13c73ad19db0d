// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "syncbn/error.hpp"
#include "syncbn/state.hpp"

#include "support/failure.hpp"
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
    const std::string failure = test::failure_of<FileError>([&] { load_safetensors(path); });
    EXPECT_THAT(failure, testing::AnyOf("", HasSubstr("file.safetensors")));
    return failure;
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
    EXPECT_NE(failure_of(whole.substr(0, length)), "") << length << " bytes";
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
  for (const char* odd : {R"({"w":{"dtype":"","shape":[],"data_offsets":[0,4]}})",
                          R"({"w":{"dtype":7,"shape":[],"data_offsets":[0,4]}})"}) {
    EXPECT_THAT(failure_of(file_of(odd, "1234")), HasSubstr("dtype that names none"));
  }
  EXPECT_THAT(
      failure_of(file_of(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "1234")),
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
  for (const char* odd :
       {R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})",
        R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,-4]}})",
        R"({"w":{"dtype":"F8","shape":[18446744073709551615],"data_offsets":[0,4]}})",
        R"({"w":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})",
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
              HasSubstr("has no dtype"));
  EXPECT_THAT(failure_of(file_of(R"({"w":5})")), HasSubstr("has no dtype"));
  EXPECT_THAT(failure_of(file_of(
                  R"({"w":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,0]}})")),
              HasSubstr("shape that does not fit"));
}

TEST_F(Safetensors, KeepsTensorsOfTypesThatItDoesNotKnow) {
  const std::string header = R"({"half byte":{"dtype":"F4","shape":[3],"data_offsets":[8,10]},)"
                             R"("complex":{"dtype":"C64","shape":[1],"data_offsets":[0,8]},)"
                             R"("w":{"dtype":"F32","shape":[1],"data_offsets":[10,14]}})";
  std::ofstream(scratch_ / "x", std::ios::binary)
      << file_of(header, std::string("12345678ab") + std::string(4, '\0'));
  const StateDict state = load_safetensors(scratch_ / "x");
  EXPECT_THAT(state.tensors.at("w").as_doubles("w"), testing::ElementsAre(0));
  const StateTensor& other = state.tensors.at("half byte");
  EXPECT_EQ(other.dtype, StateDType::other);
  EXPECT_EQ(other.type_name(), "F4");
  EXPECT_EQ(other.bytes, (std::vector<std::byte>{std::byte{'a'}, std::byte{'b'}}));
  for (const auto& ask : {std::function<void()>([&] { other.as_doubles("half byte"); }),
                          std::function<void()>([&] { other.as_integer("half byte"); })}) {
    EXPECT_THAT(test::failure_of<FileError>([&] { ask(); }), HasSubstr("'half byte' is F4"));
  }
  save_safetensors(state, scratch_ / "y");
  EXPECT_EQ(load_safetensors(scratch_ / "y"), state);
  StateDict nameless = state;
  nameless.tensors["w"].dtype = StateDType::other;
  EXPECT_THROW(save_safetensors(nameless, scratch_ / "z"), InvalidArgument);
  nameless.tensors["w"].other_type = "F32";
  EXPECT_THROW(save_safetensors(nameless, scratch_ / "z"), InvalidArgument);
}

TEST_F(Safetensors, HasNothingAfterTheHeaderButWhiteSpace) {
  const std::string header = R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  EXPECT_EQ(failure_of(file_of(header + " \t\n  ", "1234")), "");
  EXPECT_THAT(failure_of(file_of(header + std::string(2, '\0'), "1234")), HasSubstr("byte of 0"));
  EXPECT_THAT(failure_of(file_of(header + '\0' + "rubbish", "1234")), HasSubstr("byte of 0"));
  EXPECT_THAT(failure_of(file_of(header + "x", "1234")), HasSubstr("does not parse"));
}

TEST_F(Safetensors, MetadataIsTextsOrNone) {
  const auto with = [&](const std::string& metadata) {
    return file_of(R"({"__metadata__":)" + metadata +
                       R"(,"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                   "1234");
  };
  EXPECT_EQ(failure_of(with("null")), "");
  EXPECT_EQ(failure_of(with("{}")), "");
  for (const char* odd : {"[]", R"(["a"])", "1", R"({"a":1})", R"({"a":null})"}) {
    EXPECT_THAT(failure_of(with(odd)), HasSubstr("something else than texts")) << odd;
  }
}

TEST_F(Safetensors, AnyFlippedBitIsNoticedOrChangesNoTensor) {
  save_safetensors(example(), scratch_ / "x");
  const std::string whole = read(scratch_ / "x");
  int taken = 0;
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] ^= static_cast<char>(1 << bit % 8);
    std::ofstream(scratch_ / "y", std::ios::binary) << damaged;
    try {
      EXPECT_EQ(load_safetensors(scratch_ / "y").tensors, example().tensors) << "bit " << bit;
      ++taken;
    } catch (const FileError&) {
    }
  }
  EXPECT_LE(taken, 8 * 15) << "only flips in the checksum's own name";
}

TEST_F(Safetensors, AChecksumThatDoesNotFitIsTold) {
  save_safetensors(example(), scratch_ / "x");
  std::string damaged = read(scratch_ / "x");
  damaged.back() ^= 1;
  EXPECT_THAT(failure_of(damaged), HasSubstr("its checksum is"));
  EXPECT_EQ(load_safetensors(scratch_ / "x").metadata, example().metadata) << "it is taken out";
  StateDict old = example();
  old.metadata["syncbn.checksum"] = "of another state";
  save_safetensors(old, scratch_ / "x");
  EXPECT_EQ(load_safetensors(scratch_ / "x"), example());
}

TEST_F(Safetensors, ReadsNoMoreThanAHeaderThatCannotBeRight) {
  std::ofstream(scratch_ / "x") << "";
  std::filesystem::resize_file(scratch_ / "x", std::uintmax_t{1} << 40);
  EXPECT_THROW(load_safetensors(scratch_ / "x"), FileError) << "a terabyte of zeros";
  const std::string header = R"({"w":{"dtype":"F64","shape":[137438953472],)"
                             R"("data_offsets":[0,1099511627776]}})";
  EXPECT_THAT(failure_of(file_of(header)), HasSubstr("cut off"));
}

TEST_F(Safetensors, DoesNotWaitForWhatIsNoFile) {
  ASSERT_EQ(::mkfifo((scratch_ / "pipe").c_str(), 0600), 0);
  for (const std::filesystem::path& odd :
       {scratch_ / "pipe", scratch_.path(), std::filesystem::path("/dev/zero")}) {
    EXPECT_THAT(test::failure_of<FileError>([&] { load_safetensors(odd); }),
                HasSubstr("no regular file"))
        << odd;
  }
}

TEST(StateTensor, IntegersOfAnyTypeAreIntegers) {
  const auto tensor = [](StateDType dtype, auto value) {
    StateTensor one{dtype, {}, std::vector<std::byte>(sizeof value)};
    std::memcpy(one.bytes.data(), &value, sizeof value);
    return one;
  };
  EXPECT_EQ(tensor(StateDType::i32, std::int32_t{-7}).as_integer("n"), -7);
  EXPECT_EQ(tensor(StateDType::u8, std::uint8_t{200}).as_integer("n"), 200);
  EXPECT_EQ(tensor(StateDType::f32, 7.0F).as_integer("n"), 7);
  EXPECT_EQ(tensor(StateDType::f64, -1e15).as_integer("n"), -1'000'000'000'000'000);
  EXPECT_THROW(tensor(StateDType::f32, 7.5F).as_integer("n"), FileError);
  EXPECT_THROW(tensor(StateDType::f32, std::nanf("")).as_integer("n"), FileError);
  EXPECT_THROW(tensor(StateDType::f64, 0x1p63).as_integer("n"), FileError);
  EXPECT_THROW(tensor(StateDType::u64, std::uint64_t{1} << 63).as_integer("n"), FileError);
  EXPECT_THROW(tensor(StateDType::boolean, true).as_integer("n"), FileError);
  EXPECT_THROW(StateTensor::from(std::vector<float>{1, 2}).as_integer("n"), FileError);
  StateTensor damaged = tensor(StateDType::i32, std::int32_t{1});
  damaged.bytes.resize(3);
  EXPECT_THROW(damaged.as_integer("n"), FileError);
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
