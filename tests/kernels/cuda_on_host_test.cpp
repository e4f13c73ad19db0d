// SPDX-License-Identifier: Apache-2.0

// The CUDA kernels, run on the host: what each thread does, and what blocks make of that.

#include "kernels/cuda_on_host.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "kernels/cuda/forward_sums.hpp"
#include "kernels/cuda/normalize.hpp"
#include "kernels/cuda_checks.hpp"
#include "kernels/tolerance.hpp"

namespace syncbn::test {
namespace {

namespace cuda = kernels::cuda;

const kernels::Kernels& reference = kernels::select(Backend::reference);

class CudaOnHostTest : public testing::TestWithParam<TypeAndLayout> {
 protected:
  Problem problem(Shape shape) const {
    return {std::get<DType>(GetParam()), shape, std::get<Layout>(GetParam())};
  }
};
INSTANTIATE_TEST_SUITE_P(, CudaOnHostTest, testing::ValuesIn(types_and_layouts()),
                         [](const auto& of) { return name_of(of.param); });

TEST_P(CudaOnHostTest, SumsAgreeWithTheReference) {
  on_cuda_problems(GetParam(),
                   [](const Problem& problem) { expect_right_sums(cuda_on_host(), problem); });
}

TEST_P(CudaOnHostTest, ElementsAgreeWithTheReference) {
  on_cuda_problems(GetParam(),
                   [](const Problem& problem) { expect_right_elements(cuda_on_host(), problem); });
}

// As many blocks at a time and threads in whatever order as the device likes.
TEST_P(CudaOnHostTest, TheOrderOfThreadsAndBlocksDoesNotMatter) {
  on_cuda_problems(GetParam(), [](const Problem& problem) {
    expect_same_results(cuda_on_host(Order::backward), cuda_on_host(), problem);
  });
}

// The check above is worth something: threads that hand over within a phase fail it.
TEST(HostBlockTest, OrderShowsThreadsThatDoNotWait) {
  const auto sum = [](Order order) {
    int shared[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    cuda::HostBlock(0, 8, order).every_thread([&](int thread) {
      if (thread > 0) {
        shared[thread] += shared[thread - 1];
      }
    });
    return shared[7];
  };
  EXPECT_NE(sum(Order::forward), sum(Order::backward));
}

// The tolerance is worth something: it notices a single element left out.
TEST_P(CudaOnHostTest, ToleranceNoticesAMissingElement) {
  Problem of = problem({40, 33, 67});
  const Sums tolerance = forward_tolerance(of, of.x.dtype() == DType::f64 ? 0 : 13);
  const Sums whole = forward_sums(cuda_on_host(), of);
  of.x.set(7, 3, 66, of.pivot[3]);  // a difference of 0
  const Sums without = forward_sums(cuda_on_host(), of);
  EXPECT_GT(std::fabs(whole.first[3] - without.first[3]), 10 * tolerance.first[3]);
  EXPECT_GT(std::fabs(whole.second[3] - without.second[3]), 10 * tolerance.second[3]);
}

// A copy of a tensor that begins `elements` elements behind a multiple of 16 bytes.
class Shifted {
 public:
  Shifted(const Tensor& tensor, std::size_t elements)
      : tensor_(tensor),
        bytes_(static_cast<std::size_t>(tensor.shape().size()) * size_of(tensor.dtype())),
        memory_(bytes_ / sizeof(cuda::Words) + 2),
        data_(reinterpret_cast<std::byte*>(memory_.data()) + elements * size_of(tensor.dtype())) {
    std::memcpy(data_, tensor.view().data(), bytes_);
  }
  ConstTensorView view() const {
    return {data_, tensor_.dtype(), tensor_.shape(), tensor_.layout()};
  }
  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  const Tensor& tensor_;
  std::size_t bytes_;
  std::vector<cuda::Words> memory_;
  std::byte* data_;
};

// Vectors are cut by indices: where they cannot be moved in one access the results are the same.
TEST_P(CudaOnHostTest, AlignmentDoesNotMatter) {
  for (const Shape& shape : {Shape{3, 16, 49}, Shape{2, 3, 520}, Shape{40, 64, 1}}) {
    SCOPED_TRACE(to_text(shape));
    const Problem of = problem(shape);
    std::vector<double> sums(static_cast<std::size_t>(2 * shape.c + 1)), aligned_sums = sums;
    std::vector<std::byte> workspace = workspace_for(of.x.view());
    cuda::run_forward_sums({of.x.view(), nullptr, of.pivot.data(), aligned_sums.data()},
                           workspace.data(), OnHost{});
    const Tensor y = normalize(cuda_on_host(), of, true, true);
    const std::size_t in_vector = sizeof(cuda::Words) / size_of(of.x.dtype());
    for (std::size_t shift = 0; shift < in_vector; ++shift) {
      const Shifted x(of.x, shift), residual(of.residual, in_vector - 1 - shift);
      cuda::run_forward_sums({x.view(), nullptr, of.pivot.data(), sums.data()}, workspace.data(),
                             OnHost{});
      EXPECT_EQ(sums, aligned_sums);
      cuda::run_normalize({x.view(), nullptr, of.mean.data(), of.scale.data(), of.shift.data(),
                           residual.data(), of.relu_slope, x.data()},
                          OnHost{});
      EXPECT_EQ(std::memcmp(x.data(), y.view().data(), x.bytes()), 0);
    }
  }
}

// Backwards from the output only.
TEST_P(CudaOnHostTest, TheOutputIsAsGoodAsTheInput) {
  for (const Shape& shape : {Shape{3, 5, 300}, Shape{3, 24, 49}, Shape{70, 24, 1}}) {
    SCOPED_TRACE(to_text(shape));
    Problem of = problem(shape);
    of.relu_slope = 0.25;
    const Tensor y = normalize(reference, of, true, false);
    const Sums got = backward_sums_from_output(cuda_on_host(), of, y);
    const Sums expected = backward_sums_from_output(reference, of, y);
    const Tensor dx = input_gradient_from_output(cuda_on_host(), of, y);
    const Tensor expected_dx = input_gradient_from_output(reference, of, y);
    const double u = unit_of_arithmetic(of.x.dtype());
    const Bounds bounds{of};
    std::vector<double> first(of.mean.size()), second(of.mean.size());
    for_each(shape, [&](auto n, auto c, auto s) {
      const auto i = static_cast<std::size_t>(c);
      // z, its difference from the shift and the quotient are rounded, and scale and shift before.
      const double z = y.at(n, c, s) <= 0 ? y.at(n, c, s) / of.relu_slope : y.at(n, c, s);
      const double off = u * (6 * std::fabs(z) + 8 * std::fabs(of.shift[i])) / of.scale[i];
      const double dy = std::fabs(of.dy.at(n, c, s));
      const double centered = std::fabs((z - of.shift[i]) / of.scale[i]);
      first[i] += 16 * u * dy;
      second[i] += dy * (std::fabs(off) + 16 * u * centered);
      const double tolerance = std::fabs(of.scale[i]) * (8 * u * (dy + std::fabs(of.mean_dz[i])) +
                                                         std::fabs(of.grad_slope[i]) *
                                                             (std::fabs(off) + 10 * u * centered)) +
                               bounds.storing(expected_dx.at(n, c, s));
      EXPECT_NEAR(dx.at(n, c, s), expected_dx.at(n, c, s), tolerance);
    });
    const auto n = static_cast<double>(shape.per_channel());
    for (std::size_t i = 0; i < first.size(); ++i) {
      first[i] *= 1 + n * 0x1p-53 / u;
      second[i] *= 1 + n * 0x1p-53 / u;
    }
    expect_near(got, expected, {first, second});
  }
}

// A NaN or an infinity in a channel stays there and does not vanish.
TEST_P(CudaOnHostTest, SpecialValuesStayInTheirChannel) {
  for (const Shape& shape : {Shape{3, 5, 300}, Shape{3, 24, 49}, Shape{70, 24, 1}}) {
    SCOPED_TRACE(to_text(shape));
    Problem of = problem(shape);
    const Sums before = forward_sums(cuda_on_host(), of);
    of.x.set(2, 3, shape.s / 2, std::nan(""));
    const Sums after = forward_sums(cuda_on_host(), of);
    const Tensor y = normalize(cuda_on_host(), of, true, false);
    for (std::size_t c = 0; c < before.first.size(); ++c) {
      EXPECT_EQ(std::isnan(after.second[c]), c == 3);
      EXPECT_TRUE(c == 3 || after.second[c] == before.second[c]);
    }
    EXPECT_TRUE(std::isnan(y.at(2, 3, shape.s / 2)));
  }
}

}  // namespace
}  // namespace syncbn::test
