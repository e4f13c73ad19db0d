// SPDX-License-Identifier: Apache-2.0
#include "app/check/layer.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "cuda/device_buffer.hpp"
#include "cuda/graph.hpp"
#include "cuda/stream.hpp"

namespace syncbn::app::check {
namespace {

/// A PlacedTensor is a tensor where a layer is. On the CPU it is the tensor itself, on a device a
/// copy in the device's memory; without elements it takes no memory there.
class PlacedTensor {
 public:
  PlacedTensor(Tensor host, Device device, CudaStream stream)
      : host_(std::move(host)), device_(device) {
    if (!device.is_cpu() && !host_.bytes().empty()) {
      copy_ = cuda::DeviceBuffer(host_.bytes().size());
      copy_.upload(host_.bytes(), stream);
    }
  }

  /// Puts another tensor of the same shape in the same memory of the device.
  void put(Tensor host, CudaStream stream) {
    host_ = std::move(host);
    if (copy_.bytes() > 0) {
      copy_.upload(host_.bytes(), stream);
    }
  }

  TensorView view() {
    const TensorView host = host_.view();
    return {device_.is_cpu() ? host.data() : copy_.data(), host.dtype(), host.shape(),
            host.layout(), device_};
  }

  /// Returns what the tensor holds once the stream has done its work so far.
  Values values(cuda::StreamView stream) {
    if (copy_.bytes() > 0) {
      copy_.download(host_.bytes(), stream);
      stream.synchronize();
    }
    return host_.values();
  }

 private:
  Tensor host_;
  Device device_;
  cuda::DeviceBuffer copy_;
};

/// PlacedWeights are the weights of a shard's samples where a layer is.
class PlacedWeights {
 public:
  PlacedWeights(PositionWeights weights, Device device, CudaStream stream) : weights_(weights) {
    if (!device.is_cpu() && !weights.empty()) {
      copy_ = cuda::DeviceBuffer(weights.size_bytes());
      copy_.upload(std::as_bytes(weights), stream);
      weights_ = {copy_.as<float>(), weights.size()};
    }
  }

  /// Puts as many other weights in the same memory of the device.
  void put(PositionWeights weights, CudaStream stream) {
    if (copy_.bytes() > 0) {
      copy_.upload(std::as_bytes(weights), stream);
    }
  }

  PositionWeights get() const { return weights_; }

 private:
  cuda::DeviceBuffer copy_;
  PositionWeights weights_;
};

/// HostTensors are a rank's tensors of one step, filled. In place, y begins as x and dx as dy.
struct HostTensors {
  Tensor x, dy, y, dx;
  Tensor residual, dresidual;  ///< without samples if the case has no residual
  PositionWeights weights;

  HostTensors(const Case& one, const Shard& shard, const Batch& batch)
      : x(one, shard, batch.x),
        dy(one, shard, batch.dy),
        y(one.memory == Memory::apart ? Tensor(one, shard) : Tensor(one, shard, batch.x)),
        dx(one.memory == Memory::apart ? Tensor(one, shard) : Tensor(one, shard, batch.dy)),
        residual(one.residual ? Tensor(one, shard, batch.residual) : Tensor(one, Shard{})),
        dresidual(one, one.residual ? shard : Shard{}),
        weights(weight_of(one, batch, shard)) {}
};

/// CaseTensors are a rank's tensors in the memory of the layer's device.
struct CaseTensors {
  PlacedTensor x, dy, y, dx, residual, dresidual;
  PlacedWeights weights;

  CaseTensors(HostTensors host, Device device, CudaStream stream)
      : x(std::move(host.x), device, stream),
        dy(std::move(host.dy), device, stream),
        y(std::move(host.y), device, stream),
        dx(std::move(host.dx), device, stream),
        residual(std::move(host.residual), device, stream),
        dresidual(std::move(host.dresidual), device, stream),
        weights(host.weights, device, stream) {}

  /// Puts the tensors of another step in the same memory.
  void put(HostTensors host, CudaStream stream) {
    x.put(std::move(host.x), stream);
    dy.put(std::move(host.dy), stream);
    y.put(std::move(host.y), stream);
    dx.put(std::move(host.dx), stream);
    residual.put(std::move(host.residual), stream);
    dresidual.put(std::move(host.dresidual), stream);
    weights.put(host.weights, stream);
  }
};

class CheckedLayer final : public Layer {
 public:
  /// `Group` is a Communicator or a DeviceCommunicator.
  template <class Group>
  CheckedLayer(const Case& one, const Parameters& parameters, const Shard& shard,
               const Group& ranks)
      : one_(one), shard_(shard), layer_(one.shape.c, ranks, options_of(one)) {
    if (!layer_.device().is_cpu()) {
      stream_ = cuda::make_stream();
    }
    assign(layer_.weight(), parameters.gamma);
    assign(layer_.bias(), parameters.beta);
  }

  StepResults train(const Batch& batch) override {
    const CudaStream stream = stream_.get();
    HostTensors host(one_, shard_, batch);
    if (one_.replayed && tensors_) {
      tensors_->put(std::move(host), stream);
      if (!graph_) {
        graph_.emplace(stream, [this] { step(); });
      }
      graph_->replay(stream);
    } else {
      tensors_.emplace(std::move(host), layer_.device(), stream);
      step();
    }
    if (!layer_.device().is_cpu()) {
      layer_.device_communicator().synchronize(stream_.get());  // this throws if a rank is missing
    }
    return {.y = tensors_->y.values(stream),
            .dx = tensors_->dx.values(stream),
            .dresidual = tensors_->dresidual.values(stream),
            .weight_grad = values_of(layer_.weight_grad()),
            .bias_grad = values_of(layer_.bias_grad()),
            .running_mean = values_of(layer_.running_mean()),
            .running_var = values_of(layer_.running_var())};
  }

 private:
  void step() {
    layer_.zero_grad(stream_.get());
    forward(*tensors_);
    backward(*tensors_);
  }

  void forward(CaseTensors& tensors) {
    const TensorView x = one_.memory == Memory::apart ? tensors.x.view() : tensors.y.view();
    ForwardExtras extras{.position_weights = tensors.weights.get(), .stream = stream_.get()};
    if (one_.memory == Memory::recovered) {
      layer_.forward_in_place(x, record_, extras);
      return;
    }
    if (one_.residual) {
      extras.residual = tensors.residual.view();
    }
    layer_.forward(x, tensors.y.view(), record_, extras);
  }

  void backward(CaseTensors& tensors) {
    const TensorView dy = one_.memory == Memory::apart ? tensors.dy.view() : tensors.dx.view();
    BackwardExtras extras{.position_weights = tensors.weights.get(), .stream = stream_.get()};
    if (one_.memory == Memory::recovered) {
      layer_.backward_in_place(record_, tensors.y.view(), dy, tensors.dx.view(), extras);
      return;
    }
    if (one_.residual) {
      extras.y = tensors.y.view();
      extras.dresidual = tensors.dresidual.view();
    }
    layer_.backward(record_, tensors.x.view(), dy, tensors.dx.view(), extras);
  }

  void assign(std::span<double> array, const std::vector<double>& values) {
    if (layer_.device().is_cpu()) {
      std::ranges::copy(values, array.begin());
    } else {
      cuda::upload(std::as_bytes(std::span(values)), array.data(), stream_.get());
    }
  }

  std::vector<double> values_of(std::span<const double> array) const {
    if (layer_.device().is_cpu()) {
      return {array.begin(), array.end()};
    }
    std::vector<double> values(array.size());
    cuda::download(array.data(), std::as_writable_bytes(std::span(values)), stream_.get());
    cuda::StreamView(stream_.get()).synchronize();
    return values;
  }

  Case one_;
  Shard shard_;
  cuda::Stream stream_;  ///< none on the CPU
  BatchNorm layer_;
  ForwardRecord record_;
  std::optional<CaseTensors> tensors_;
  std::optional<cuda::Graph> graph_;
};

template <class Group>
LayerMaker layers_over(const Group& all, const Group& own) {
  return [all, own](const Case& one, const Parameters& parameters, const Shard& shard,
                    Ranks ranks) -> std::unique_ptr<Layer> {
    return std::make_unique<CheckedLayer>(one, parameters, shard, ranks == Ranks::all ? all : own);
  };
}

}  // namespace

BatchNormOptions options_of(const Case& one) {
  return {.name = "check",
          .eps = eps,
          .momentum = momentum,
          .activation = one.activation,
          .parameter_gradients = one.scope,
          .channel_blocks = one.channel_blocks,
          .reproducibility = one.reproducibility};
}

LayerMaker layers_on_host(const Communicator& world) {
  return layers_over(world, Communicator::self());
}

LayerMaker layers_on_device(const DeviceCommunicator& all, const DeviceCommunicator& own) {
  return layers_over(all, own);
}

}  // namespace syncbn::app::check
