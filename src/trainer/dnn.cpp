// SPDX-License-Identifier: Apache-2.0
#include "trainer/dnn.hpp"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

#include "trainer/weight_gradient.hpp"

namespace syncbn::trainer::dnn {
namespace {

using Desc = dnnl::memory::desc;
using Dims = dnnl::memory::dims;
using Tag = dnnl::memory::format_tag;

Desc floats(const Dims& dims, Tag tag) {
  return {dims, dnnl::memory::data_type::f32, tag};
}

struct Device {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};

using Arguments = std::unordered_map<int, dnnl::memory>;

/// Executes a primitive, and returns when it is done. A oneDNN that computes through SYCL, as
/// PyPI's, only begins in execute.
void run(const Device& device, const dnnl::primitive& primitive, const Arguments& arguments) {
  primitive.execute(device.stream, arguments);
  dnnl::stream(device.stream).wait();
}

// oneDNN 3 folded 2's operation descriptors into the primitive descriptors. Everything that differs
// between the two is between here and the #endif.
#if DNNL_VERSION_MAJOR >= 3

using PoolForward = dnnl::pooling_forward;
using PoolBackward = dnnl::pooling_backward;

template <class Primitive, class... Args>
typename Primitive::primitive_desc describe(const Device& device, const Args&... args) {
  return {device.engine, args...};
}

template <class Primitive, class Hint, class... Args>
typename Primitive::primitive_desc describe_backward(const Device& device, const Hint& hint,
                                                     const Args&... args) {
  return {device.engine, args..., hint};
}

dnnl::eltwise_forward::primitive_desc describe_eltwise(const Device& device,
                                                       dnnl::algorithm function, const Desc& data) {
  return {device.engine, dnnl::prop_kind::forward_training, function, data, data};
}

dnnl::eltwise_backward::primitive_desc describe_eltwise_backward(
    const Device& device, const dnnl::eltwise_forward::primitive_desc& hint,
    dnnl::algorithm function, const Desc& data) {
  return {device.engine, function, data, data, data, hint};
}

#else

using PoolForward = dnnl::pooling_v2_forward;
using PoolBackward = dnnl::pooling_v2_backward;

template <class Primitive, class... Args>
typename Primitive::primitive_desc describe(const Device& device, const Args&... args) {
  return {typename Primitive::desc(args...), device.engine};
}

template <class Primitive, class Hint, class... Args>
typename Primitive::primitive_desc describe_backward(const Device& device, const Hint& hint,
                                                     const Args&... args) {
  return {typename Primitive::desc(args...), device.engine, hint};
}

dnnl::eltwise_forward::primitive_desc describe_eltwise(const Device& device,
                                                       dnnl::algorithm function, const Desc& data) {
  return describe<dnnl::eltwise_forward>(device, dnnl::prop_kind::forward_training, function, data);
}

dnnl::eltwise_backward::primitive_desc describe_eltwise_backward(
    const Device& device, const dnnl::eltwise_forward::primitive_desc& hint,
    dnnl::algorithm function, const Desc& data) {
  return describe_backward<dnnl::eltwise_backward>(device, hint, function, data, data);
}

#endif

/// Holds a tensor in the caller's memory, which a primitive may want in a layout of its own.
class Operand {
 public:
  Operand(const Device& device, const Desc& callers, const Desc& primitives)
      : callers_(callers, device.engine, nullptr), primitives_(callers_) {
    if (callers != primitives) {
      primitives_ = dnnl::memory(primitives, device.engine);
      pack_.emplace(callers_, primitives_);
      unpack_.emplace(primitives_, callers_);
    }
  }

  /// Returns memory from which a primitive reads `data`, repacked now if need be.
  dnnl::memory input(const Device& device, const float* data) {
    callers_.set_data_handle(const_cast<float*>(data));  // oneDNN's handles know no const
    if (pack_) {
      run(device, *pack_, {{DNNL_ARG_FROM, callers_}, {DNNL_ARG_TO, primitives_}});
    }
    return primitives_;
  }

  /// Returns memory to which a primitive writes. `data` has the result after finish().
  dnnl::memory output(float* data) {
    callers_.set_data_handle(data);
    return primitives_;
  }

  void finish(const Device& device) {
    if (unpack_) {
      run(device, *unpack_, {{DNNL_ARG_FROM, primitives_}, {DNNL_ARG_TO, callers_}});
    }
  }

 private:
  dnnl::memory callers_, primitives_;
  std::optional<dnnl::reorder> pack_, unpack_;
};

/// Returns a tensor that caller and primitive have in the same layout.
dnnl::memory view(const Device& device, const Desc& desc, const float* data) {
  return {desc, device.engine, const_cast<float*>(data)};
}

/// Computes a layer with weights for one batch size, but not the gradients of its weights. Dense
/// and Convolution differ only in how the two primitives are described.
template <class Forward, class BackwardData>
class Weighted {
 public:
  struct Descs {
    Desc x, y, w, b;  ///< the caller's; b of no dimensions without a bias
    typename Forward::primitive_desc forward;
    typename BackwardData::primitive_desc backward_data;
  };

  Weighted(const Device& device, Descs descs)
      : descs_(std::move(descs)),
        forward_(descs_.forward),
        backward_data_(descs_.backward_data),
        w_forward_(device, descs_.w, descs_.forward.weights_desc()),
        w_backward_(device, descs_.w, descs_.backward_data.weights_desc()) {}

  void forward(const Device& device, const float* x, const float* w, const float* b, float* y) {
    Arguments arguments{{DNNL_ARG_SRC, view(device, descs_.x, x)},
                        {DNNL_ARG_WEIGHTS, w_forward_.input(device, w)},
                        {DNNL_ARG_DST, view(device, descs_.y, y)}};
    if (b != nullptr) {
      arguments.emplace(DNNL_ARG_BIAS, view(device, descs_.b, b));
    }
    run(device, forward_, arguments);
  }

  void backward_data(const Device& device, const float* w, const float* dy, float* dx) {
    run(device, backward_data_,
        {{DNNL_ARG_DIFF_DST, view(device, descs_.y, dy)},
         {DNNL_ARG_WEIGHTS, w_backward_.input(device, w)},
         {DNNL_ARG_DIFF_SRC, view(device, descs_.x, dx)}});
  }

 private:
  Descs descs_;
  Forward forward_;
  BackwardData backward_data_;
  Operand w_forward_, w_backward_;
};

/// Keeps the plans (prepared primitives) of one layer, made as batch sizes come up.
template <class Plan>
class PerBatchSize {
 public:
  template <class Make>
  Plan& get(std::int64_t n, Make make) {
    const auto found = plans_.find(n);
    return found != plans_.end() ? found->second : plans_.emplace(n, make()).first->second;
  }

 private:
  std::map<std::int64_t, Plan> plans_;
};

Desc bias_desc(std::int64_t outputs, Bias bias) {
  return bias == Bias::with ? floats({outputs}, Tag::a) : Desc();
}

}  // namespace

struct Dense::Impl {
  using Plan = Weighted<dnnl::inner_product_forward, dnnl::inner_product_backward_data>;

  Plan& plan(std::int64_t n) {
    return plans.get(n, [&] { return Plan(device, describe_both(n)); });
  }

  Plan::Descs describe_both(std::int64_t n) const {
    const Desc x = floats({n, inputs}, Tag::ab);
    const Desc y = floats({n, outputs}, Tag::ab);
    const Desc w = floats({outputs, inputs}, Tag::ab);
    const Desc w_any = floats({outputs, inputs}, Tag::any);
    const Desc b = bias_desc(outputs, bias);
    const auto forward = describe<dnnl::inner_product_forward>(
        device, dnnl::prop_kind::forward_training, x, w_any, b, y);
    return {x,
            y,
            w,
            b,
            forward,
            describe_backward<dnnl::inner_product_backward_data>(device, forward, x, w_any, y)};
  }

  std::int64_t inputs, outputs;
  Bias bias;
  Device device = {};
  PerBatchSize<Plan> plans = {};
};

Dense::Dense(std::int64_t inputs, std::int64_t outputs, Bias bias)
    : impl_(new Impl{inputs, outputs, bias}) {}

Dense::~Dense() = default;

void Dense::forward(std::int64_t n, const float* x, const float* w, const float* b, float* y) {
  impl_->plan(n).forward(impl_->device, x, w, b, y);
}

void Dense::backward_data(std::int64_t n, const float* w, const float* dy, float* dx) {
  impl_->plan(n).backward_data(impl_->device, w, dy, dx);
}

/// Does not use oneDNN, which has no matrix product in double for CPUs.
void Dense::backward_weights(std::int64_t n, const float* x, const float* dy, double* dw,
                             double* db) {
  const std::int64_t outputs = impl_->outputs;
  dense_weight_gradient(n, impl_->inputs, outputs, x, dy, dw);
  if (db == nullptr) {
    return;
  }
  std::fill_n(db, outputs, 0.0);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t o = 0; o < outputs; ++o) {
      db[o] += dy[i * outputs + o];
    }
  }
}

struct Convolution::Impl {
  using Plan = Weighted<dnnl::convolution_forward, dnnl::convolution_backward_data>;

  /// Computes the gradients of weights and bias for one sample.
  struct Gradient {
    Desc x, y, b;
    dnnl::convolution_backward_weights::primitive_desc desc;
    dnnl::convolution_backward_weights primitive;
    Operand dw_operand;
    std::vector<float> dw, db;

    void compute(const Device& device, const float* sample, const float* dy) {
      Arguments arguments{{DNNL_ARG_SRC, view(device, x, sample)},
                          {DNNL_ARG_DIFF_DST, view(device, y, dy)},
                          {DNNL_ARG_DIFF_WEIGHTS, dw_operand.output(dw.data())}};
      if (!db.empty()) {
        arguments.emplace(DNNL_ARG_DIFF_BIAS, view(device, b, db.data()));
      }
      run(device, primitive, arguments);
      dw_operand.finish(device);
    }
  };

  Impl(Image input_image, std::int64_t filter_count, std::int64_t filter_size, Bias bias_choice)
      : input(input_image),
        filters(filter_count),
        size(filter_size),
        bias(bias_choice),
        gradient(describe_gradient()) {}

  Desc x_desc(std::int64_t n) const {
    return floats({n, input.channels, input.height, input.width}, Tag::nhwc);
  }
  Desc y_desc(std::int64_t n) const {
    return floats({n, filters, input.height, input.width}, Tag::nhwc);
  }
  Desc w_desc(Tag tag) const { return floats({filters, input.channels, size, size}, tag); }

  Plan& plan(std::int64_t n) {
    return plans.get(n, [&] { return Plan(device, describe_both(n)); });
  }

  dnnl::convolution_forward::primitive_desc describe_forward(std::int64_t n) const {
    return describe<dnnl::convolution_forward>(
        device, dnnl::prop_kind::forward_training, algorithm, x_desc(n), w_desc(Tag::any),
        bias_desc(filters, bias), y_desc(n), strides, padding, padding);
  }

  Plan::Descs describe_both(std::int64_t n) const {
    const auto forward = describe_forward(n);
    const auto backward = describe_backward<dnnl::convolution_backward_data>(
        device, forward, algorithm, x_desc(n), w_desc(Tag::any), y_desc(n), strides, padding,
        padding);
    return {x_desc(n), y_desc(n), w_desc(Tag::oihw), bias_desc(filters, bias), forward, backward};
  }

  Gradient describe_gradient() const {
    const Desc b = bias_desc(filters, bias);
    const auto desc = describe_backward<dnnl::convolution_backward_weights>(
        device, describe_forward(1), algorithm, x_desc(1), w_desc(Tag::any), b, y_desc(1), strides,
        padding, padding);
    const auto biases = static_cast<std::size_t>(bias == Bias::with ? filters : 0);
    return {x_desc(1),
            y_desc(1),
            b,
            desc,
            dnnl::convolution_backward_weights(desc),
            Operand(device, w_desc(Tag::oihw), desc.diff_weights_desc()),
            std::vector<float>(static_cast<std::size_t>(filters * input.channels * size * size)),
            std::vector<float>(biases)};
  }

  static constexpr auto algorithm = dnnl::algorithm::convolution_direct;

  Image input;
  std::int64_t filters, size;
  Bias bias;
  Dims strides{1, 1};
  Dims padding{size / 2, size / 2};
  Device device = {};
  PerBatchSize<Plan> plans = {};
  Gradient gradient;
};

Convolution::Convolution(Image input, std::int64_t filters, std::int64_t size, Bias bias)
    : impl_(new Impl(input, filters, size, bias)) {}

Convolution::~Convolution() = default;

void Convolution::forward(std::int64_t n, const float* x, const float* w, const float* b,
                          float* y) {
  impl_->plan(n).forward(impl_->device, x, w, b, y);
}

void Convolution::backward_data(std::int64_t n, const float* w, const float* dy, float* dx) {
  impl_->plan(n).backward_data(impl_->device, w, dy, dx);
}

void Convolution::backward_weights(std::int64_t n, const float* x, const float* dy, double* dw,
                                   double* db) {
  Impl::Gradient& sample = impl_->gradient;
  const std::int64_t pixels = impl_->input.height * impl_->input.width;
  std::fill_n(dw, sample.dw.size(), 0.0);
  std::fill_n(db, sample.db.size(), 0.0);
  for (std::int64_t i = 0; i < n; ++i) {
    sample.compute(impl_->device, x + i * impl_->input.size(), dy + i * pixels * impl_->filters);
    std::transform(sample.dw.begin(), sample.dw.end(), dw, dw, std::plus<double>());
    std::transform(sample.db.begin(), sample.db.end(), db, db, std::plus<double>());
  }
}

struct AveragePool::Impl {
  struct Plan {
    Desc x, y;
    PoolForward forward;
    PoolBackward backward;
  };

  Plan& plan(std::int64_t n) {
    return plans.get(n, [&] { return make_plan(n); });
  }

  Plan make_plan(std::int64_t n) const {
    const auto algorithm = dnnl::algorithm::pooling_avg_exclude_padding;
    const Desc x = floats({n, input.channels, input.height, input.width}, Tag::nhwc);
    const Desc y = floats({n, input.channels, input.height / 2, input.width / 2}, Tag::nhwc);
    const Dims window{2, 2};
    const Dims none{0, 0};
    const auto forward = describe<PoolForward>(device, dnnl::prop_kind::forward_training, algorithm,
                                               x, y, window, window, none, none, none);
    const auto backward = describe_backward<PoolBackward>(device, forward, algorithm, x, y, window,
                                                          window, none, none, none);
    return {x, y, PoolForward(forward), PoolBackward(backward)};
  }

  Image input;
  Device device = {};
  PerBatchSize<Plan> plans = {};
};

AveragePool::AveragePool(Image input) : impl_(new Impl{input}) {}

AveragePool::~AveragePool() = default;

void AveragePool::forward(std::int64_t n, const float* x, float* y) {
  Impl::Plan& plan = impl_->plan(n);
  const Device& device = impl_->device;
  run(device, plan.forward,
      {{DNNL_ARG_SRC, view(device, plan.x, x)}, {DNNL_ARG_DST, view(device, plan.y, y)}});
}

void AveragePool::backward(std::int64_t n, const float* dy, float* dx) {
  Impl::Plan& plan = impl_->plan(n);
  const Device& device = impl_->device;
  run(device, plan.backward,
      {{DNNL_ARG_DIFF_DST, view(device, plan.y, dy)},
       {DNNL_ARG_DIFF_SRC, view(device, plan.x, dx)}});
}

namespace {

/// Returns the algorithm whose backward needs y and not x.
dnnl::algorithm algorithm_of(Function function) {
  switch (function) {
    case Function::sigmoid:
      return dnnl::algorithm::eltwise_logistic_use_dst_for_bwd;
    case Function::tanh:
      return dnnl::algorithm::eltwise_tanh_use_dst_for_bwd;
    case Function::relu:
      break;
  }
  return dnnl::algorithm::eltwise_relu_use_dst_for_bwd;
}

}  // namespace

struct Elementwise::Impl {
  struct Plan {
    Desc data;
    dnnl::eltwise_forward forward;
    dnnl::eltwise_backward backward;
  };

  Plan& plan(std::int64_t n) {
    return plans.get(n, [&] { return make_plan(n); });
  }

  Plan make_plan(std::int64_t n) const {
    const Desc data = floats({n, width}, Tag::ab);
    const dnnl::algorithm algorithm = algorithm_of(function);
    const auto forward = describe_eltwise(device, algorithm, data);
    return {data, dnnl::eltwise_forward(forward),
            dnnl::eltwise_backward(describe_eltwise_backward(device, forward, algorithm, data))};
  }

  Function function;
  std::int64_t width;
  Device device = {};
  PerBatchSize<Plan> plans = {};
};

Elementwise::Elementwise(Function function, std::int64_t width)
    : impl_(new Impl{function, width}) {}

Elementwise::~Elementwise() = default;

void Elementwise::forward(std::int64_t n, const float* x, float* y) {
  Impl::Plan& plan = impl_->plan(n);
  const Device& device = impl_->device;
  run(device, plan.forward,
      {{DNNL_ARG_SRC, view(device, plan.data, x)}, {DNNL_ARG_DST, view(device, plan.data, y)}});
}

void Elementwise::backward(std::int64_t n, const float* y, const float* dy, float* dx) {
  Impl::Plan& plan = impl_->plan(n);
  const Device& device = impl_->device;
  run(device, plan.backward,
      {{DNNL_ARG_DST, view(device, plan.data, y)},
       {DNNL_ARG_DIFF_DST, view(device, plan.data, dy)},
       {DNNL_ARG_DIFF_SRC, view(device, plan.data, dx)}});
}

}  // namespace syncbn::trainer::dnn
