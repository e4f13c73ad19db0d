// SPDX-License-Identifier: Apache-2.0
#include "bn/batch_norm.hpp"

#include <algorithm>
#include <utility>

namespace syncbn {

BatchNorm::BatchNorm(std::int64_t channels, Communicator group, BatchNormOptions options)
    : impl_(std::make_unique<Impl>(channels, std::move(group), std::move(options))) {}

BatchNorm::BatchNorm(BatchNorm&&) noexcept = default;
BatchNorm& BatchNorm::operator=(BatchNorm&&) noexcept = default;
BatchNorm::~BatchNorm() = default;

std::int64_t BatchNorm::channels() const {
  return impl_->layer.channels;
}

const BatchNormOptions& BatchNorm::options() const {
  return impl_->layer.options;
}

const Communicator& BatchNorm::communicator() const {
  return impl_->layer.communicator;
}

void BatchNorm::forward(ConstTensorView x, TensorView y, Saved& saved,
                        PositionWeights position_weights) {
  bn::forward(impl_->layer, {.x = x, .y = y, .position_weights = position_weights}, saved);
}

void BatchNorm::forward(ConstTensorView x, ConstTensorView residual, TensorView y, Saved& saved,
                        PositionWeights position_weights) {
  bn::forward(impl_->layer,
              {.x = x, .residual = residual, .y = y, .position_weights = position_weights}, saved);
}

void BatchNorm::forward_in_place(TensorView x, Saved& saved, PositionWeights position_weights) {
  impl_->layer.require_invertible();
  bn::forward(impl_->layer,
              {.x = x, .y = x, .position_weights = position_weights, .in_place = true}, saved);
}

void BatchNorm::infer(ConstTensorView x, TensorView y, PositionWeights position_weights) {
  bn::infer(impl_->layer, {.x = x, .y = y, .position_weights = position_weights});
}

void BatchNorm::infer(ConstTensorView x, ConstTensorView residual, TensorView y,
                      PositionWeights position_weights) {
  bn::infer(impl_->layer,
            {.x = x, .residual = residual, .y = y, .position_weights = position_weights});
}

void BatchNorm::infer(ConstTensorView x, TensorView y, Saved& saved,
                      PositionWeights position_weights) {
  bn::infer(impl_->layer, {.x = x, .y = y, .position_weights = position_weights}, saved);
}

void BatchNorm::infer(ConstTensorView x, ConstTensorView residual, TensorView y, Saved& saved,
                      PositionWeights position_weights) {
  bn::infer(impl_->layer,
            {.x = x, .residual = residual, .y = y, .position_weights = position_weights}, saved);
}

void BatchNorm::backward(const Saved& saved, ConstTensorView x, ConstTensorView dy, TensorView dx,
                         PositionWeights position_weights) {
  bn::backward(impl_->layer,
               {.context = {.x = x,
                            .dy = dy,
                            .statistics = saved.statistics,
                            .position_weights = position_weights},
                .dx = dx},
               saved);
}

void BatchNorm::backward(const Saved& saved, ConstTensorView x, ConstTensorView y,
                         ConstTensorView dy, TensorView dx, TensorView dresidual,
                         PositionWeights position_weights) {
  bn::backward(impl_->layer,
               {.context = {.x = x,
                            .dy = dy,
                            .statistics = saved.statistics,
                            .y = y,
                            .position_weights = position_weights},
                .dx = dx,
                .dresidual = dresidual},
               saved);
}

void BatchNorm::backward_in_place(const Saved& saved, ConstTensorView y, ConstTensorView dy,
                                  TensorView dx, PositionWeights position_weights) {
  impl_->layer.require_invertible();
  bn::backward(impl_->layer,
               {.context = {.x = y,
                            .dy = dy,
                            .statistics = saved.statistics,
                            .position_weights = position_weights,
                            .from_output = true},
                .dx = dx},
               saved);
}

std::span<double> BatchNorm::weight() {
  return impl_->layer.weight;
}

std::span<double> BatchNorm::bias() {
  return impl_->layer.bias;
}

std::span<double> BatchNorm::weight_grad() {
  return impl_->layer.weight_grad;
}

std::span<double> BatchNorm::bias_grad() {
  return impl_->layer.bias_grad;
}

void BatchNorm::zero_grad() {
  std::ranges::fill(weight_grad(), 0.0);
  std::ranges::fill(bias_grad(), 0.0);
}

std::span<double> BatchNorm::running_mean() {
  return impl_->layer.running_mean;
}

std::span<double> BatchNorm::running_var() {
  return impl_->layer.running_var;
}

std::int64_t BatchNorm::num_batches_tracked() const {
  return impl_->layer.num_batches_tracked;
}

std::int64_t BatchNorm::pivot_retries() const {
  return impl_->layer.pivot_retries;
}

}  // namespace syncbn
