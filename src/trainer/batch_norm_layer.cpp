// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <optional>
#include <span>
#include <vector>

#include "syncbn/batch_norm.hpp"
#include "syncbn/population.hpp"

#include "trainer/layers.hpp"
#include "trainer/weights.hpp"

namespace syncbn::trainer {
namespace {

/// Puts a BatchNorm into a network. The optimizer trains gamma and beta in float, as all
/// parameters, and BatchNorm uses them, and adds to their gradients, where they are.
class BatchNormLayer final : public Layer {
 public:
  BatchNormLayer(const std::string& name, std::int64_t pixels, std::int64_t channels,
                 const Communicator& group, const BatchNormOptions& options)
      : prefix_(name + "."),
        pixels_(pixels),
        parameters_{filled(prefix_ + "weight", {channels}, 1),
                    filled(prefix_ + "bias", {channels}, 0)},
        batch_norm_(channels, group, options,
                    {.weight = std::span(parameters_[0].value),
                     .bias = std::span(parameters_[1].value),
                     .weight_grad = std::span(parameters_[0].gradient),
                     .bias_grad = std::span(parameters_[1].gradient)}) {}

  std::int64_t output_size() const override { return pixels_ * batch_norm_.channels(); }

  void forward(const Pass& pass, const float* x, float* y) override {
    if (pass.mode == Mode::infer) {
      batch_norm_.infer(view(pass, x), view(pass, y));
    } else {
      batch_norm_.forward(view(pass, x), view(pass, y), record_);
      if (population_) {
        population_->add(view(pass, x));
      }
    }
  }

  void backward(const Pass& pass, const float* x, const float*, const float* dy,
                float* dx) override {
    batch_norm_.zero_grad();
    batch_norm_.backward(record_, view(pass, x), view(pass, dy), view(pass, dx));
  }

  std::span<Parameter> parameters() override { return parameters_; }
  bool is_batch_norm() const override { return true; }

  void begin_population() override { population_.emplace(batch_norm_.channels()); }
  void end_population(const Communicator& ranks) override {
    batch_norm_.set_running_statistics(population_->finish(ranks));
    population_.reset();
  }

  void save_state(StateDict& state) const override { batch_norm_.save_state(state, prefix_); }
  void load_state(const StateDict& state) override { batch_norm_.load_state(state, prefix_); }

 private:
  Shape shape(const Pass& pass) const { return {pass.size(), batch_norm_.channels(), pixels_}; }
  ConstTensorView view(const Pass& pass, const float* data) const {
    return {data, shape(pass), Layout::channels_last};
  }
  TensorView view(const Pass& pass, float* data) const {
    return {data, shape(pass), Layout::channels_last};
  }

  std::string prefix_;
  std::int64_t pixels_;
  std::array<Parameter, 2> parameters_;
  BatchNorm batch_norm_;
  ForwardRecord record_;
  std::optional<PopulationStatistics> population_;  ///< while it is collected
};

}  // namespace

std::unique_ptr<Layer> batch_norm_layer(const std::string& name, std::int64_t pixels,
                                        std::int64_t channels, syncbn::Activation activation,
                                        const Communicator& group) {
  BatchNormOptions options;
  options.name = name;
  options.activation = activation;
  return std::make_unique<BatchNormLayer>(name, pixels, channels, group, options);
}

}  // namespace syncbn::trainer
