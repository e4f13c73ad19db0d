// SPDX-License-Identifier: Apache-2.0
#include "app/check/layer_run.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace syncbn::app::check {
namespace {

constexpr int steps = 2;  // the second one's sums are taken about the first one's running mean
constexpr double eps = 1e-5;
constexpr double momentum = 0.1;

BatchNorm make_layer(const Case& one, const Communicator& group, const Parameters& parameters) {
  BatchNorm layer(one.shape.c, group,
                  {.name = "check",
                   .eps = eps,
                   .momentum = momentum,
                   .activation = one.activation,
                   .parameter_gradients = one.scope,
                   .channel_blocks = one.channel_blocks});
  std::ranges::copy(parameters.gamma, layer.weight().begin());
  std::ranges::copy(parameters.beta, layer.bias().begin());
  return layer;
}

Exact initial(std::int64_t channels, double value) {
  const auto size = static_cast<std::size_t>(channels);
  return {Values(size, value), std::vector<double>(size, 0), std::vector<double>(size, 0)};
}

/// A rank's tensors of one step. In place, y begins as x and dx as dy.
struct Tensors {
  Tensor x, dy, y, dx;
  Tensor residual, dresidual;  ///< no samples without
  Weight weight;

  Tensors(const Case& one, const Shard& shard, const Batch& batch)
      : x(one, shard, batch.x),
        dy(one, shard, batch.dy),
        y(one.memory == Memory::apart ? Tensor(one, shard) : x),
        dx(one.memory == Memory::apart ? Tensor(one, shard) : dy),
        residual(one.residual ? Tensor(one, shard, batch.residual) : Tensor(one, Shard{})),
        dresidual(one, one.residual ? shard : Shard{}),
        weight(weight_of(one, batch, shard)) {}
};

void forward(BatchNorm& layer, const Case& one, Tensors& tensors, Saved& saved) {
  const TensorView x = one.memory == Memory::apart ? tensors.x.view() : tensors.y.view();
  if (one.memory == Memory::recovered) {
    layer.forward_in_place(x, saved, tensors.weight);
  } else if (one.residual) {
    layer.forward(x, tensors.residual.view(), tensors.y.view(), saved, tensors.weight);
  } else {
    layer.forward(x, tensors.y.view(), saved, tensors.weight);
  }
}

void backward(BatchNorm& layer, const Case& one, Tensors& tensors, const Saved& saved) {
  const TensorView dy = one.memory == Memory::apart ? tensors.dy.view() : tensors.dx.view();
  if (one.memory == Memory::recovered) {
    layer.backward_in_place(saved, tensors.y.view(), dy, tensors.dx.view(), tensors.weight);
  } else if (one.residual) {
    layer.backward(saved, tensors.x.view(), tensors.y.view(), dy, tensors.dx.view(),
                   tensors.dresidual.view(), tensors.weight);
  } else {
    layer.backward(saved, tensors.x.view(), dy, tensors.dx.view(), tensors.weight);
  }
}

/// Collective. A parameter gradient of the whole group.
std::vector<double> group_gradient(const Case& one, std::span<const double> gradient,
                                   const Communicator& world) {
  std::vector<double> sum(gradient.begin(), gradient.end());
  if (one.scope == GradientScope::local) {
    world.all_reduce(sum);
  }
  return sum;
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

void run_case(const Case& one, std::size_t index, std::uint64_t seed, const Communicator& world,
              Findings& findings, SharedBits& bits) {
  const Shard shard = shard_of(one.sharding, one.shape.n, world.rank(), world.size());
  const Parameters parameters = make_parameters(one.shape.c, seed);
  BatchNorm layer = make_layer(one, world, parameters);
  Exact running_mean = initial(one.shape.c, 0);
  Exact running_var = initial(one.shape.c, 1);
  Saved saved;
  const auto judge = [&](Quantity quantity, std::span<const double> values, const Exact& exact,
                         const Window& window) {
    findings.add(one.dtype, quantity, index, worst_of(values, exact, window));
  };
  for (int step = 0; step < steps; ++step) {
    Batch batch = make_batch(one, seed, step);
    const Expected expected = expect(one, parameters, eps, batch);
    update_running(running_mean, expected.mean, momentum);
    update_running(running_var, expected.unbiased_var, momentum);

    Tensors tensors(one, shard, batch);
    layer.zero_grad();
    forward(layer, one, tensors, saved);
    backward(layer, one, tensors, saved);

    const Window own = window_of(one, shard);
    judge(Quantity::y, tensors.y.values(), expected.y, own);
    const bool recovered = one.memory == Memory::recovered;
    judge(recovered ? Quantity::dx_recovered : Quantity::dx, tensors.dx.values(), expected.dx, own);
    if (one.residual) {
      judge(Quantity::dresidual, tensors.dresidual.values(), expected.dresidual, own);
    }
    const std::vector<double> dgamma = group_gradient(one, layer.weight_grad(), world);
    const std::vector<double> dbeta = group_gradient(one, layer.bias_grad(), world);
    judge(recovered ? Quantity::weight_grad_recovered : Quantity::weight_grad, dgamma,
          expected.weight_grad, {});
    judge(Quantity::bias_grad, dbeta, expected.bias_grad, {});
    judge(Quantity::running_mean, layer.running_mean(), running_mean, {});
    judge(Quantity::running_var, layer.running_var(), running_var, {});
    for (const std::span<const double> shared :
         {std::span<const double>(dgamma), std::span<const double>(dbeta),
          std::span<const double>(layer.running_mean()),
          std::span<const double>(layer.running_var())}) {
      bits.add(shared);
    }
  }
}

Worst run_local(const Case& one, std::uint64_t seed, const Communicator& world) {
  const Shard shard = shard_of(one.sharding, one.shape.n, world.rank(), world.size());
  const Parameters parameters = make_parameters(one.shape.c, seed);
  Batch batch = make_batch(one, seed, 0);
  const Expected expected = expect(one, parameters, eps, batch);
  BatchNorm layer = make_layer(one, Communicator::self(), parameters);
  Tensors tensors(one, shard, batch);
  Saved saved;
  forward(layer, one, tensors, saved);

  const Worst own = worst_of(tensors.y.values(), expected.y, window_of(one, shard));
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
