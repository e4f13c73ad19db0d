// SPDX-License-Identifier: Apache-2.0

// Micro-benchmarks by Google Benchmark: each phase by itself, and the layer cut into blocks of
// channels of every size, to hold the size that it chooses (0) against the others and against not
// cutting at all (1). Tensors take turns, so that they come from memory.
//
//   bin/syncbn_kernels_bench --benchmark_filter='blocks.*f32'

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "syncbn/batch_norm.hpp"

#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Tensor;

constexpr std::size_t beyond_caches = std::size_t{256} << 20;  ///< [B]

/// As many sets of x, dy and an output as exceed any cache.
class Pool {
 public:
  Pool(DType dtype, const Shape& shape, Layout layout) {
    const std::size_t bytes = 3 * static_cast<std::size_t>(shape.size()) * size_of(dtype);
    sets_.push_back({Tensor::normal(dtype, shape, layout, 1, 0.5),
                     Tensor::normal(dtype, shape, layout, 2), Tensor(dtype, shape, layout)});
    sets_.resize(beyond_caches / bytes + 2, sets_[0]);
  }

  struct Set {
    Tensor x, dy, out;
  };
  Set& next() { return sets_[turn_++ % sets_.size()]; }

 private:
  std::vector<Set> sets_;
  std::size_t turn_ = 0;
};

struct Subject {
  DType dtype;
  Layout layout;
  Shape shape;

  std::string name() const {
    return std::string(to_string(dtype)) + "/" + std::string(to_string(layout)) + "/" +
           std::to_string(shape.n) + "x" + std::to_string(shape.c) + "x" + std::to_string(shape.s);
  }
};

/// `passes`: how often a tensor's bytes are read or written.
void set_traffic(benchmark::State& state, const Subject& subject, int passes) {
  state.SetBytesProcessed(state.iterations() * passes * subject.shape.size() *
                          static_cast<std::int64_t>(size_of(subject.dtype)));
}

void phases(benchmark::State& state, const Subject& subject, int phase) {
  Pool pool(subject.dtype, subject.shape, subject.layout);
  std::vector<double> pivot(static_cast<std::size_t>(subject.shape.c));
  std::vector<double> sums(sums_length(subject.shape.c));
  Statistics statistics;
  forward_sums(pool.next().x.view(), pivot, sums);
  finalize(sums, pivot, 1e-5, statistics);
  for (auto _ : state) {
    Pool::Set& set = pool.next();
    const BackwardContext context{.x = set.x.view(), .dy = set.dy.view(), .statistics = statistics};
    switch (phase) {
      case 0:
        forward_sums(set.x.view(), pivot, sums);
        break;
      case 1:
        normalize(set.x.view(), statistics, {}, Activation::none, std::nullopt, set.out.view());
        break;
      case 2:
        backward_sums(context, sums);
        break;
      default:
        input_gradient(context, sums, set.out.view(), std::nullopt);
    }
  }
  constexpr int passes[] = {1, 2, 2, 3};
  set_traffic(state, subject, passes[phase]);
}

void layer_in_blocks(benchmark::State& state, const Subject& subject) {
  Pool pool(subject.dtype, subject.shape, subject.layout);
  BatchNorm layer(subject.shape.c, Communicator::self(), {.channel_blocks = state.range(0)});
  ForwardRecord record;
  for (auto _ : state) {
    Pool::Set& set = pool.next();
    layer.forward(set.x.view(), set.out.view(), record);
    layer.backward(record, set.x.view(), set.dy.view(), set.out.view());
  }
  set_traffic(state, subject, 3 + 5);
}

void add_benchmarks(const Subject& subject) {
  constexpr const char* names[] = {"forward_sums", "normalize", "backward_sums", "input_gradient"};
  for (int phase = 0; phase < 4; ++phase) {
    std::string name = names[phase];
    name += '/';
    name += subject.name();
    benchmark::RegisterBenchmark(name.c_str(), phases, subject, phase)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
  auto* blocks =
      benchmark::RegisterBenchmark(("blocks/" + subject.name()).c_str(), layer_in_blocks, subject)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond)
          ->Arg(0);
  for (std::int64_t count = 1; count <= subject.shape.c; count *= 2) {
    blocks->Arg(count);
  }
}

}  // namespace
}  // namespace syncbn

int main(int argc, char** argv) {
  using namespace syncbn;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      for (const Shape& shape : {Shape{32, 256, 56 * 56}, Shape{32, 1024, 14 * 14},
                                 Shape{32, 2048, 7 * 7}, Shape{4096, 1000, 1}}) {
        add_benchmarks({dtype, layout, shape});
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    return 1;
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
