// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

/// This namespace wraps the oneDNN primitives that the trainer needs. Tensors are dense floats in
/// the caller's memory; batches are [n, height, width, channels]. A primitive is prepared the first
/// time a batch size n >= 1 comes up, and reused after that. Failures are dnnl::error, a
/// std::exception.
namespace syncbn::trainer::dnn {

enum class Bias : std::uint8_t { without, with };

/// Computes y = x W^T + b with x [n, inputs], W [outputs, inputs], b [outputs].
class Dense {
 public:
  Dense(std::int64_t inputs, std::int64_t outputs, Bias bias);
  ~Dense();

  /// `b` is null without a bias, and so is `db` below.
  void forward(std::int64_t n, const float* x, const float* w, const float* b, float* y);
  void backward_data(std::int64_t n, const float* w, const float* dy, float* dx);
  void backward_weights(std::int64_t n, const float* x, const float* dy, double* dw, double* db);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct Image {
  std::int64_t height = 0, width = 0, channels = 0;
  std::int64_t size() const { return height * width * channels; }
};

/// Convolves with odd square filters, stride 1 and zeros around the image, so that y is as large as
/// x. W [filters, channels, size, size], b [filters].
class Convolution {
 public:
  Convolution(Image input, std::int64_t filters, std::int64_t size, Bias bias);
  ~Convolution();

  void forward(std::int64_t n, const float* x, const float* w, const float* b, float* y);
  void backward_data(std::int64_t n, const float* w, const float* dy, float* dx);
  void backward_weights(std::int64_t n, const float* x, const float* dy, double* dw, double* db);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Takes the mean of each 2 x 2 square; an odd last row or column is left out.
class AveragePool {
 public:
  explicit AveragePool(Image input);
  ~AveragePool();

  void forward(std::int64_t n, const float* x, float* y);
  void backward(std::int64_t n, const float* dy, float* dx);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

enum class Function : std::uint8_t { sigmoid, tanh, relu };

/// Computes y = f(x), elementwise on [n, width].
class Elementwise {
 public:
  Elementwise(Function function, std::int64_t width);
  ~Elementwise();

  void forward(std::int64_t n, const float* x, float* y);
  void backward(std::int64_t n, const float* y, const float* dy, float* dx);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace syncbn::trainer::dnn
