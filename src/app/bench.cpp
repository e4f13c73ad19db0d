// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <unistd.h>

#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "app/args.hpp"
#include "app/bench/layer_bench.hpp"
#include "app/bench/place.hpp"
#include "app/bench/report.hpp"
#include "app/command.hpp"
#include "app/device_world.hpp"
#include "app/flight_directory.hpp"
#include "app/output_files.hpp"
#include "app/print.hpp"
#include "app/threads.hpp"
#include "app/words.hpp"

namespace syncbn::app {
namespace {

using namespace bench;

constexpr Word<Rival> rival_words[] = {
    {"onednn", Rival::onednn}, {"local", Rival::local}, {"exact", Rival::exact}};

struct Request {
  BenchOptions options;
  std::string shapes = "resnet50";
  std::int64_t batch = 32;
  std::optional<int> threads;
  std::filesystem::path json;
  std::filesystem::path csv;
};

void declare(CommandLine& command, Request& request) {
  command.section("What to time");
  command.text("shapes", request.shapes, "SHAPES",
               "resnet50: the shapes of its 53 layers for 224x224 pixels; or "
               "NxCxHxW,..: samples of a rank, channels, height, width");
  command.number("batch", request.batch, {.min = 1, .max = 1 << 20}, "N",
                 "samples of a rank, with --shapes resnet50");
  command.choice("dtype", request.options.dtype, dtype_words, "element type");
  command.choice("layout", request.options.layout, layout_words, "memory order");
  command.choices(
      "compare", request.options.rivals, rival_words,
      "also time batch norm without exchange, oneDNN's or this library's, or with exact sums");
  command.number("threads", request.threads, {.min = 1, .max = 4096}, "N",
                 "OpenMP threads of each rank",
                 "OMP_NUM_THREADS, or its share of the processors and of the CPU quota");
  command.section("How long");
  command.number("repeat", request.options.repetitions, {.min = 1, .max = 1000000}, "N",
                 "repetitions, at least");
  command.number("min-time", request.options.min_seconds, {.min = 0, .max = 86400}, "SECONDS",
                 "per shape, at least");
  command.section("Output");
  command.path("json", request.json, "FILE", "also write all figures as JSON");
  command.path("csv", request.csv, "FILE", "also write them as CSV");
  command.example("mpirun -n 2 syncbn bench --compare onednn", "ResNet-50's layers, two ranks");
  command.example("mpirun -n 2 syncbn bench --device cuda --compare local",
                  "the same on CUDA devices, beside layers without exchange");
  command.example("syncbn bench --shapes 64x256x14x14,4096x512 --dtype bf16 --csv bench.csv",
                  "two shapes of your own");
}

/// Throws UsageError for options that have no meaning for layers on devices.
void refuse_on_device(const CommandLine& command, const Request& request) {
  if (std::ranges::count(request.options.rivals, Rival::onednn) > 0) {
    throw UsageError(
        "--compare onednn and --device contradict each other (this oneDNN is for CPUs). "
        "Compare with local or exact, or leave out --device.");
  }
  if (command.given("threads")) {
    throw UsageError(
        "--threads and --device contradict each other (kernels are on the device). Leave out "
        "--threads.");
  }
}

void apply(const CommandLine& command, const Request& request) {
  if (command.given("batch") && !is_network(request.shapes)) {
    throw UsageError(
        "--batch and --shapes NxCxHxW contradict each other: N is the batch. Leave out --batch.");
  }
  if (command.device() != DeviceKind::cpu) {
    refuse_on_device(command, request);
  }
  if (request.threads && !set_thread_count(*request.threads)) {
    throw UsageError("--threads must be 1 (this build has no OpenMP).");
  }
}

/// Shows at rank 0's terminal how far we are.
void show_progress(const Communicator& world, std::size_t done,
                   const std::vector<LayerShape>& all) {
  if (world.rank() != 0 || isatty(STDERR_FILENO) == 0) {
    return;
  }
  if (done < all.size()) {
    print_error(fmt::format("\r[{}/{}] {:<40}", done + 1, all.size(), all[done].text));
  } else {
    print_error(fmt::format("\r{:<60}\r", ""));
  }
}

/// Collective. Times one shape after the other.
std::vector<LayerTimes> time_layers(const std::vector<LayerShape>& shapes,
                                    const Communicator& ranks,
                                    const std::function<LayerTimes(const LayerShape&)>& time) {
  std::vector<LayerTimes> layers;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    show_progress(ranks, i, shapes);
    try {
      layers.push_back(time(shapes[i]));
    } catch (const std::bad_alloc&) {
      throw Error(
          fmt::format("memory ran out for tensors of {} on every rank. Time smaller shapes, "
                      "or fewer ranks on a host.",
                      shapes[i].text));
    }
  }
  show_progress(ranks, shapes.size(), shapes);
  return layers;
}

class Bench final : public Command {
 public:
  Bench();
  int run(const World& world) override;

 private:
  Request request_;
};

Bench::Bench()
    : Command("bench",
              "Times a batch norm layer and its phases over these ranks, beside reading and\n"
              "copying memory and, if wanted, batch norm without exchange, in the same run.",
              RunsOn::cpu_or_cuda) {
  declare(command_line(), request_);
}

int Bench::run(const World& world) {
  apply(command_line(), request_);
  const std::vector<LayerShape> shapes = parse_shapes(request_.shapes, request_.batch);
  const Communicator& ranks = world.communicator;
  require_different_files(ranks, {{"json", request_.json}, {"csv", request_.csv}});
  require_writable(ranks, request_.json);
  require_writable(ranks, request_.csv);
  prepare_flight_directory(ranks, command_line().exchange().flight_record);

  BenchReport report{request_.options, ranks.size(), thread_count(), world.transport, {}, {}};
  if (command_line().device() != DeviceKind::cpu) {
    const DeviceWorld devices =
        open_devices(world, command_line().device(), command_line().exchange());
    report.transport = devices.exchange;
    report.device = devices.device;
    report.layers = time_layers(shapes, ranks, [&](const LayerShape& shape) {
      const auto place = place_on_device(shape, request_.options, ranks, devices);
      return time_layer(shape, request_.options, ranks, *place);
    });
  } else {
    report.layers = time_layers(shapes, ranks, [&](const LayerShape& shape) {
      const auto place = place_on_host(shape, request_.options, ranks);
      return time_layer(shape, request_.options, ranks, *place);
    });
  }

  if (ranks.rank() == 0) {
    print(report_text(report));
  }
  write_report(ranks, request_.json, report_json(report));
  write_report(ranks, request_.csv, report_csv(report));
  return 0;
}

}  // namespace

std::unique_ptr<Command> make_bench() {
  return std::make_unique<Bench>();
}

}  // namespace syncbn::app
