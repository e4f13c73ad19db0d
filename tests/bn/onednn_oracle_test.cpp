// SPDX-License-Identifier: Apache-2.0
//
// oneDNN's batch normalization as an oracle that shares neither code nor authors with the library
// or its tests. It computes in f32 from statistics in f32, so agreement is to
// (|mean|/std + 8) * 2^-24 of the values' magnitude, plus n-fold summation: 3 sqrt(n) 2^-24.

#include <cmath>
#include <unordered_map>

#include <gtest/gtest.h>
#include <oneapi/dnnl/dnnl.hpp>

#include "syncbn/batch_norm.hpp"

#include "support/tensor.hpp"
#include "support/worst.hpp"

namespace syncbn {
namespace {

using test::Tensor;

constexpr float eps = 1e-5F;

struct Result {
  Tensor y, dx;
  std::vector<float> dgamma, dbeta;
};

class OneDnn {
 public:
  OneDnn(const Shape& shape, Layout layout, bool relu)
      : md_({shape.n, shape.c, 1, shape.s}, dnnl::memory::data_type::f32,
            layout == Layout::channels_first ? dnnl::memory::format_tag::nchw
                                             : dnnl::memory::format_tag::nhwc),
        channel_md_({shape.c}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::a),
        flags_(dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift) {
    if (relu) {
      flags_ |= dnnl::normalization_flags::fuse_norm_relu;
    }
  }

  Result run(Tensor x, Tensor dy, std::vector<float> gamma, std::vector<float> beta) {
    using dnnl::prop_kind;
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::batch_normalization_forward::primitive_desc forward(
        engine_, prop_kind::forward_training, md_, md_, eps, flags_);
    const dnnl::batch_normalization_backward::primitive_desc backward(
        engine_, prop_kind::backward, md_, md_, md_, eps, flags_, forward);
#else
    const dnnl::batch_normalization_forward::primitive_desc forward(
        {prop_kind::forward_training, md_, eps, flags_}, engine_);
    const dnnl::batch_normalization_backward::primitive_desc backward(
        {prop_kind::backward, md_, md_, eps, flags_}, engine_, forward);
#endif
    Result result{x, x, std::vector<float>(gamma.size()), std::vector<float>(gamma.size())};
    std::unordered_map<int, dnnl::memory> arguments = {
        {DNNL_ARG_SRC, tensor(x)},
        {DNNL_ARG_DST, tensor(result.y)},
        {DNNL_ARG_DIFF_DST, tensor(dy)},
        {DNNL_ARG_DIFF_SRC, tensor(result.dx)},
        {DNNL_ARG_MEAN, dnnl::memory(forward.mean_desc(), engine_)},
        {DNNL_ARG_VARIANCE, dnnl::memory(forward.variance_desc(), engine_)},
        {DNNL_ARG_SCALE, channels(gamma)},
        {DNNL_ARG_SHIFT, channels(beta)},
        {DNNL_ARG_DIFF_SCALE, channels(result.dgamma)},
        {DNNL_ARG_DIFF_SHIFT, channels(result.dbeta)},
        {DNNL_ARG_WORKSPACE, dnnl::memory(forward.workspace_desc(), engine_)}};
    dnnl::stream stream(engine_);
    dnnl::batch_normalization_forward(forward).execute(stream, arguments);
    dnnl::batch_normalization_backward(backward).execute(stream, arguments);
    stream.wait();
    return result;
  }

 private:
  dnnl::memory tensor(Tensor& t) {
    return {md_, engine_, t.view().data()};
  }
  dnnl::memory channels(std::vector<float>& v) {
    return {channel_md_, engine_, v.data()};
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::memory::desc md_, channel_md_;
  dnnl::normalization_flags flags_;
};

void compare(const Tensor& ours, const Tensor& theirs, double tolerance) {
  test::Worst worst;
  for (std::int64_t n = 0; n < ours.shape().n; ++n) {
    for (std::int64_t c = 0; c < ours.shape().c; ++c) {
      for (std::int64_t s = 0; s < ours.shape().s; ++s) {
        worst.see(std::fabs(ours.at(n, c, s) - theirs.at(n, c, s)));
      }
    }
  }
  EXPECT_LE(worst.value(), tolerance);
}

TEST(OneDnnOracle, AgreesInBothDirections) {
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    for (const bool relu : {false, true}) {
      for (const Shape& shape : {Shape{4, 16, 25}, Shape{3, 5, 7}, Shape{16, 64, 49}}) {
        SCOPED_TRACE(std::string(to_string(layout)) + (relu ? " relu" : "") +
                     " c=" + std::to_string(shape.c));
        const Tensor x = Tensor::normal(DType::f32, shape, layout, 1, 0.5, 2);
        const Tensor dy = Tensor::normal(DType::f32, shape, layout, 2);
        const auto channels = static_cast<std::size_t>(shape.c);
        std::vector<float> gamma(channels), beta(channels);
        BatchNorm layer(shape.c, Communicator::self(),
                        {.eps = eps, .activation = relu ? Activation::relu : Activation::none});
        for (std::size_t c = 0; c < channels; ++c) {
          gamma[c] = 0.5F + 0.25F * static_cast<float>(c % 4);
          beta[c] = 0.125F * static_cast<float>(c % 3);
          layer.weight()[c] = gamma[c];
          layer.bias()[c] = beta[c];
        }
        Tensor y = x, dx = x;
        ForwardRecord record;
        layer.forward(x.view(), y.view(), record);
        layer.backward(record, x.view(), dy.view(), dx.view());
        const Result expected = OneDnn(shape, layout, relu).run(x, dy, gamma, beta);

        const auto n = static_cast<double>(shape.per_channel());
        const double u = 0x1p-24 * (8 + 3 * std::sqrt(n));
        compare(y, expected.y, u * 8);    // |y| and its terms stay below 8
        compare(dx, expected.dx, u * 8);  // |dx| likewise: gamma invstd <= 1, |dy| < 5
        for (std::size_t c = 0; c < channels; ++c) {
          EXPECT_NEAR(layer.weight_grad()[c], expected.dgamma[c], u * 8 * n);
          EXPECT_NEAR(layer.bias_grad()[c], expected.dbeta[c], u * 8 * n);
        }
      }
    }
  }
}

}  // namespace
}  // namespace syncbn
