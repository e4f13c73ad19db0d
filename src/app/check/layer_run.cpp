// SPDX-License-Identifier: Apache-2.0
#include "app/check/layer_run.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

namespace syncbn::app::check {
namespace {

Exact initial(std::int64_t channels, double value) {
  const auto size = static_cast<std::size_t>(channels);
  return {Values(size, value), std::vector<double>(size, 0), std::vector<double>(size, 0)};
}

/// Collective. Returns a parameter gradient of the whole group.
std::vector<double> group_gradient(const Case& one, std::span<const double> gradient,
                                   const Communicator& world) {
  std::vector<double> sum(gradient.begin(), gradient.end());
  if (one.scope == GradientScope::local) {
    world.all_reduce(sum);
  }
  return sum;
}

/// Trained is everything that training gives a rank.
struct Trained {
  std::vector<Values> of_samples;  ///< tensors of each step
  Values of_all;                   ///< values that belong to the whole batch
};

Trained train(const LayerMaker& make, const Case& one, const Parameters& parameters,
              std::span<const Batch> batches, const Shard& shard, Ranks ranks) {
  const std::unique_ptr<Layer> layer = make(one, parameters, shard, ranks);
  Trained trained;
  for (const Batch& batch : batches) {
    StepResults results = layer->train(batch);
    for (const std::vector<double>* values :
         {&results.weight_grad, &results.bias_grad, &results.running_mean, &results.running_var}) {
      trained.of_all.insert(trained.of_all.end(), values->begin(), values->end());
    }
    trained.of_samples.push_back(std::move(results.y));
    trained.of_samples.push_back(std::move(results.dx));
    trained.of_samples.push_back(std::move(results.dresidual));
  }
  return trained;
}

/// Returns whether the numbers' bits differ: 0 and -0 do, two NaNs do not.
bool differ(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) != std::bit_cast<std::uint64_t>(b) &&
         !(std::isnan(a) && std::isnan(b));
}

double count_differences(const Trained& part, const Trained& whole, const Window& window) {
  double different = 0;
  for (std::size_t t = 0; t < part.of_samples.size(); ++t) {
    for (std::size_t i = 0; i < part.of_samples[t].size(); ++i) {
      const std::size_t element = i / window.size * window.whole + window.first + i % window.size;
      different += differ(part.of_samples[t][i], whole.of_samples[t][element]) ? 1 : 0;
    }
  }
  for (std::size_t i = 0; i < part.of_all.size(); ++i) {
    different += differ(part.of_all[i], whole.of_all[i]) ? 1 : 0;
  }
  return different;
}

double count_values(const Trained& trained) {
  std::size_t count = trained.of_all.size();
  for (const Values& values : trained.of_samples) {
    count += values.size();
  }
  return static_cast<double>(count);
}

}  // namespace

void SharedBits::add(std::span<const double> values) {  // FNV-1a, a word at a time
  for (const double value : values) {
    std::uint64_t word = 0;
    std::memcpy(&word, &value, sizeof word);
    hash_ = (hash_ ^ word) * 0x100000001b3;
    hash_ ^= hash_ >> 32;
  }
}

bool SharedBits::same_on_all(const Communicator& world) const {
  const std::array<double, 2> halves = {static_cast<double>(hash_ >> 32),
                                        static_cast<double>(hash_ & 0xffffffff)};
  const std::vector<double> all = world.all_gather(halves);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i] != halves[i % 2]) {
      return false;
    }
  }
  return true;
}

void run_case(const LayerMaker& make, const Case& one, std::size_t index, std::uint64_t seed,
              const Communicator& world, Findings& findings, SharedBits& bits) {
  const Shard shard = shard_of(one.sharding, one.shape.n, world.rank(), world.size());
  const Parameters parameters = make_parameters(one.shape.c, seed);
  const std::unique_ptr<Layer> layer = make(one, parameters, shard, Ranks::all);
  Exact running_mean = initial(one.shape.c, 0);
  Exact running_var = initial(one.shape.c, 1);
  const auto judge = [&](Quantity quantity, std::span<const double> values, const Exact& exact,
                         const Window& window) {
    findings.add(one.dtype, quantity, index, worst_of(values, exact, window));
  };
  for (int step = 0; step < steps_of(one); ++step) {
    Batch batch = make_batch(one, seed, step);
    const Expected expected =
        expect(one, parameters, eps, foretell(running_mean, step, momentum), batch);
    update_running(running_mean, expected.mean, momentum);
    update_running(running_var, expected.unbiased_var, momentum);

    const StepResults results = layer->train(batch);

    const Window own = window_of(one, shard);
    judge(Quantity::y, results.y, expected.y, own);
    const bool recovered = one.memory == Memory::recovered;
    judge(recovered ? Quantity::dx_recovered : Quantity::dx, results.dx, expected.dx, own);
    if (one.residual) {
      judge(Quantity::dresidual, results.dresidual, expected.dresidual, own);
    }
    const std::vector<double> dgamma = group_gradient(one, results.weight_grad, world);
    const std::vector<double> dbeta = group_gradient(one, results.bias_grad, world);
    judge(recovered ? Quantity::weight_grad_recovered : Quantity::weight_grad, dgamma,
          expected.weight_grad, {});
    judge(Quantity::bias_grad, dbeta, expected.bias_grad, {});
    judge(Quantity::running_mean, results.running_mean, running_mean, {});
    judge(Quantity::running_var, results.running_var, running_var, {});
    for (const std::vector<double>* shared :
         {&dgamma, &dbeta, &results.running_mean, &results.running_var}) {
      bits.add(*shared);
    }
  }
}

void BitComparison::add(std::size_t index, double compared_values, double different_values) {
  compared += compared_values;
  different += different_values;
  if (different_values > 0) {
    cases_different += 1;
    case_index = case_index < 0 ? static_cast<double>(index) : case_index;
  }
}

void compare_bits(const LayerMaker& make, const Case& one, std::size_t index, std::uint64_t seed,
                  const Communicator& world, BitComparison& comparison) {
  const Parameters parameters = make_parameters(one.shape.c, seed);
  std::vector<Batch> batches;
  for (int step = 0; step < steps_of(one); ++step) {
    batches.push_back(make_batch(one, seed, step));
  }
  Case of_group = one;
  of_group.scope = GradientScope::group;  // a rank's own sums depend on its samples
  Case of_calls = of_group;
  of_calls.replayed = false;
  const Trained whole = train(make, of_calls, parameters, batches, {0, one.shape.n}, Ranks::own);
  std::array<double, 2> counts = {0, 0};
  for (int i = 0; i < shardings; ++i) {
    of_group.sharding = static_cast<Sharding>(i);
    const Shard shard = shard_of(of_group.sharding, one.shape.n, world.rank(), world.size());
    const Trained part = train(make, of_group, parameters, batches, shard, Ranks::all);
    counts[0] += count_values(part);
    counts[1] += count_differences(part, whole, window_of(one, shard));
  }
  world.all_reduce(counts);
  comparison.add(index, counts[0], counts[1]);
}

Worst run_local(const LayerMaker& make, const Case& one, std::uint64_t seed,
                const Communicator& world) {
  const Shard shard = shard_of(one.sharding, one.shape.n, world.rank(), world.size());
  const Parameters parameters = make_parameters(one.shape.c, seed);
  Batch batch = make_batch(one, seed, 0);
  const Expected expected =
      expect(one, parameters, eps, foretell(initial(one.shape.c, 0), 0, momentum), batch);
  const StepResults results = make(one, parameters, shard, Ranks::own)->train(batch);

  const Worst own = worst_of(results.y, expected.y, window_of(one, shard));
  const std::array<double, 3> mine = {own.used, own.error, own.tolerance};
  const std::vector<double> all = world.all_gather(mine);
  Worst worst;
  for (std::size_t i = 0; i < all.size(); i += mine.size()) {
    if (all[i] > worst.used) {
      worst = {all[i], all[i + 1], all[i + 2], 0};
    }
  }
  return worst;
}

}  // namespace syncbn::app::check
