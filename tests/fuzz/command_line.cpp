// SPDX-License-Identifier: Apache-2.0
//
// The input is a command line, an argument a line, for a command with an option of every kind. It
// is refused with a UsageError, or every value is one that its option accepts.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "app/args.hpp"
#include "fuzz/expect.hpp"
#include "fuzz/memory_directory.hpp"
#include "fuzz/target.hpp"

namespace syncbn::fuzz {
namespace {

enum class Fruit { apple, pear, plum };

constexpr app::Word<Fruit> fruits[] = {
    {"apple", Fruit::apple}, {"pear", Fruit::pear}, {"plum", Fruit::plum}};

struct Options {
  int count = 3;
  std::int64_t steps = 10;
  std::uint64_t seed = 1;
  double rate = 0.5;
  std::optional<std::int64_t> limit;
  Fruit fruit = Fruit::pear;
  std::vector<Fruit> basket = {Fruit::apple};
  bool fast = false;
  std::string word;
  std::filesystem::path file;
};

void declare(app::CommandLine& line, Options& options) {
  line.section("Every kind");
  line.number("count", options.count, {.min = 1, .max = 100}, "N", "an int");
  line.number("steps", options.steps, {.min = 0}, "N", "an int64");
  line.number("seed", options.seed, {}, "N", "a uint64");
  line.number("rate", options.rate, {.min = 0, .max = 1, .min_excluded = true}, "R", "a double");
  line.number("limit", options.limit, {.min = -5}, "N", "one more int64", "none");
  line.choice("fruit", options.fruit, fruits, "a word");
  line.choices("basket", options.basket, fruits, "some words");
  line.flag("fast", options.fast, "a flag");
  line.text("word", options.word, "TEXT", "a text");
  line.path("file", options.file, "FILE", "a path");
  line.exclude("fast", "steps");
}

void check(const app::CommandLine& line, const Options& options) {
  expect(options.count >= 1 && options.count <= 100, "an int is in its range");
  expect(options.steps >= 0, "an int64 is in its range");
  expect(options.rate > 0 && options.rate <= 1, "a double is in its range");
  expect(!options.limit || *options.limit >= -5, "an optional number is in its range");
  expect(options.limit.has_value() == line.given("limit"), "what is given is stored");
  std::vector<Fruit> basket = options.basket;
  std::ranges::sort(basket);
  expect(!basket.empty() && std::ranges::adjacent_find(basket) == basket.end(), "no word twice");
  expect(!(line.given("fast") && line.given("steps")), "contradictions are refused");
}

}  // namespace

void run(std::string_view input) {
  app::Arguments arguments;
  while (!input.empty()) {
    const std::string argument(next_part(input, "\n"));
    if (argument != "--help" && argument != "-h") {  // nothing else would be parsed
      arguments.push_back(argument);
    }
  }
  try {
    Options options;
    app::CommandLine line("demo", "Has options of every kind.", app::RunsOn::cpu_or_cuda);
    declare(line, options);
    expect(line.parse(arguments), "it did not ask for help");
    expect(line.exchange().deadlines.fail.count() > 0, "a deadline is not at once");
    check(line, options);
    expect(!line.help().empty(), "there is help");
  } catch (const app::UsageError& error) {
    expect(!std::string_view(error.what()).empty(), "an error says something");
  }
}

}  // namespace syncbn::fuzz
