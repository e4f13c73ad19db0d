// SPDX-License-Identifier: Apache-2.0

// The kernels for CUDA devices touch no byte that is not theirs: everything they get ends where a
// page ends behind which there is no memory, or begins behind such a page, at addresses that are
// aligned to elements only.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <stdexcept>
#include <unistd.h>

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "kernels/cuda/backward_sums.hpp"
#include "kernels/cuda/exact_terms.hpp"
#include "kernels/cuda/forward_sums.hpp"
#include "kernels/cuda/input_gradient.hpp"
#include "kernels/cuda/normalize.hpp"
#include "kernels/cuda_checks.hpp"
#include "kernels/cuda_on_host.hpp"
#include "kernels/tallies.hpp"

namespace syncbn::test {
namespace {

namespace cuda = kernels::cuda;

enum class Guard : std::uint8_t { before, behind };

/// A copy of memory with a page before or behind it that nobody may touch.
class Guarded {
 public:
  Guarded(const void* from, std::size_t bytes, Guard guard) : bytes_(bytes) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t usable = (bytes + page - 1) / page * page;
    mapped_ = usable + page;
    void* const all =
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) {
      throw std::bad_alloc();
    }
    first_ = static_cast<std::byte*>(all);
    if (mprotect(guard == Guard::before ? first_ : first_ + usable, page, PROT_NONE) != 0) {
      throw std::runtime_error("a page cannot be protected");
    }
    data_ = from == nullptr ? nullptr : first_ + (guard == Guard::before ? page : usable - bytes);
    if (data_ != nullptr) {
      std::memcpy(data_, from, bytes);
    }
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(first_, mapped_); }

  /// Is null if there was nothing to copy.
  template <class T = void>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  void copy_to(void* to) const {
    if (data_ != nullptr) {
      std::memcpy(to, data_, bytes_);
    }
  }

 private:
  std::size_t bytes_;
  std::size_t mapped_;
  std::byte* first_;
  std::byte* data_;
};

template <Guard kGuard>
struct GuardedProblem {
  explicit GuardedProblem(const ConstTensorView& of) : x(of) {}

  std::size_t tensor_bytes() const {
    return static_cast<std::size_t>(x.shape().size()) * size_of(x.dtype());
  }
  Guarded tensor(const void* from) const { return {from, tensor_bytes(), kGuard}; }
  Guarded per_channel(const double* from, std::size_t more = 0) const {
    return {from, (static_cast<std::size_t>(x.shape().c) + more) * sizeof(double), kGuard};
  }
  Guarded weights(const float* from) const {
    return {from, static_cast<std::size_t>(x.shape().per_channel()) * sizeof(float), kGuard};
  }
  Guarded workspace() const {
    const std::vector<std::byte> bytes = workspace_for(x);
    return {bytes.data(), bytes.size(), kGuard};
  }
  ConstTensorView view(const Guarded& data) const {
    return {data.as<std::byte>(), x.dtype(), x.shape(), x.layout()};
  }

  ConstTensorView x;
};

/// An Upstream of guarded memory.
template <Guard kGuard>
struct GuardedUpstream {
  explicit GuardedUpstream(const kernels::Upstream& of)
      : problem(of.data),
        data(problem.tensor(of.data.data())),
        dy(problem.tensor(of.dy)),
        y(problem.tensor(of.y)),
        mean(problem.per_channel(of.mean)),
        scale(problem.per_channel(of.scale)),
        shift(problem.per_channel(of.shift)),
        weight(problem.weights(of.weight)),
        upstream(of) {
    upstream.data = problem.view(data);
    upstream.weight = weight.template as<float>();
    upstream.dy = dy.as();
    upstream.y = y.as();
    upstream.mean = mean.template as<double>();
    upstream.scale = scale.template as<double>();
    upstream.shift = shift.template as<double>();
  }

  GuardedProblem<kGuard> problem;
  Guarded data, dy, y, mean, scale, shift, weight;
  kernels::Upstream upstream;
};

template <Guard kGuard>
constexpr kernels::Kernels guarded{
    .forward_sums =
        [](const kernels::ForwardSums& of, const kernels::ChannelRange&, const kernels::Run&) {
          const GuardedProblem<kGuard> problem(of.x);
          const Guarded x = problem.tensor(of.x.data()), weight = problem.weights(of.weight);
          const Guarded pivot = problem.per_channel(of.pivot);
          const Guarded sums = problem.per_channel(of.sums, of.x.shape().c + 1);
          const Guarded workspace = problem.workspace();
          cuda::run_forward_sums(
              {problem.view(x), weight.as<float>(), pivot.as<double>(), sums.as<double>()},
              workspace.as(), OnHost{});
          sums.copy_to(of.sums);
        },
    .normalize =
        [](const kernels::Normalize& of, const kernels::ChannelRange&, const kernels::Run&) {
          const GuardedProblem<kGuard> problem(of.x);
          const Guarded x = problem.tensor(of.x.data()), weight = problem.weights(of.weight);
          const Guarded mean = problem.per_channel(of.mean), scale = problem.per_channel(of.scale);
          const Guarded shift = problem.per_channel(of.shift);
          const Guarded residual = problem.tensor(of.residual), y = problem.tensor(of.y);
          cuda::run_normalize(
              {problem.view(x), weight.as<float>(), mean.as<double>(), scale.as<double>(),
               shift.as<double>(), residual.as(), of.negative_slope, y.as()},
              OnHost{});
          y.copy_to(of.y);
        },
    .backward_sums =
        [](const kernels::BackwardSums& of, const kernels::ChannelRange&, const kernels::Run&) {
          const GuardedUpstream<kGuard> from(of.upstream);
          const Guarded sums = from.problem.per_channel(of.sums, of.upstream.data.shape().c + 1);
          const Guarded workspace = from.problem.workspace();
          cuda::run_backward_sums({from.upstream, sums.as<double>()}, workspace.as(), OnHost{});
          sums.copy_to(of.sums);
        },
    .input_gradient =
        [](const kernels::InputGradient& of, const kernels::ChannelRange&, const kernels::Run&) {
          const GuardedUpstream<kGuard> from(of.upstream);
          const Guarded mean_dz = from.problem.per_channel(of.mean_dz);
          const Guarded grad_slope = from.problem.per_channel(of.grad_slope);
          const Guarded dx = from.problem.tensor(of.dx);
          const Guarded dresidual = from.problem.tensor(of.dresidual);
          cuda::run_input_gradient({from.upstream, mean_dz.as<double>(), grad_slope.as<double>(),
                                    dx.as(), dresidual.as()},
                                   OnHost{});
          dx.copy_to(of.dx);
          if (of.dresidual != nullptr) {
            dresidual.copy_to(of.dresidual);
          }
        },
    .forward_in_fixed_point = nullptr,
    .backward_in_fixed_point = nullptr,
    .forward_magnitudes = nullptr,
    .backward_magnitudes = nullptr,
    .cache_bytes = nullptr,
    .least_channels = nullptr};

// One channel; planes and rows with a vector's rest at the end; none; and many channels.
constexpr Shape shapes[] = {{1, 1, 1},  {3, 1, 7},  {2, 3, 257}, {2, 1, 5001}, {0, 3, 5},
                            {67, 3, 1}, {3, 31, 4}, {2, 13, 49}, {6, 513, 1},  {1, 100'003, 1}};

class CudaGuardedTest : public testing::TestWithParam<TypeAndLayout> {};
INSTANTIATE_TEST_SUITE_P(, CudaGuardedTest, testing::ValuesIn(types_and_layouts()),
                         [](const auto& of) { return name_of(of.param); });

TEST_P(CudaGuardedTest, PhasesTouchTheirMemoryOnly) {
  const auto [dtype, layout] = GetParam();
  for (const Shape& shape : shapes) {
    if (shape.c > 100'000 && GetParam() != TypeAndLayout{DType::f32, Layout::channels_first}) {
      continue;  // takes seconds
    }
    SCOPED_TRACE(to_text(shape));
    Problem problem(dtype, shape, layout);
    expect_same_results(guarded<Guard::behind>, cuda_on_host(), problem);
    expect_same_results(guarded<Guard::before>, cuda_on_host(), problem);
    problem.set_weights();
    expect_same_results(guarded<Guard::behind>, cuda_on_host(), problem);
  }
}

TEST_P(CudaGuardedTest, TalliesTouchTheirMemoryOnly) {
  const auto [dtype, layout] = GetParam();
  for (const Shape& shape : {Shape{2, 3, 257}, Shape{67, 3, 1}, Shape{2, 13, 49}}) {
    const Problem problem(dtype, shape, layout);
    const GuardedProblem<Guard::behind> guarded_problem(problem.x.view());
    const Guarded x = guarded_problem.tensor(problem.x.view().data());
    const Guarded pivot = guarded_problem.per_channel(problem.pivot.data());
    const Tallies got(shape.c, 10, 14), expected(shape.c, 10, 14);
    cuda::run_tally(
        kernels::ForwardSums{guarded_problem.view(x), nullptr, pivot.as<double>(), nullptr},
        got.to(), OnHost{});
    cuda::run_tally(kernels::ForwardSums{problem.x.view(), nullptr, problem.pivot.data(), nullptr},
                    expected.to(), OnHost{});
    for (std::int64_t c = 0; c < shape.c; ++c) {
      EXPECT_EQ(channels::carried(got.of(c, false).first.coarse).low,
                channels::carried(expected.of(c, false).first.coarse).low);
    }
  }
}

// The guards are worth something: one element more than there is ends the process.
TEST(CudaGuardedControl, AReadOfOneElementTooManyIsFound) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const Problem problem(DType::f16, {1, 3, 5}, Layout::channels_first);
  const GuardedProblem<Guard::behind> of(problem.x.view());
  const Guarded x = of.tensor(problem.x.view().data());
  const auto sum = [&](std::int64_t s) {
    std::vector<double> sums(7);
    const ConstTensorView view(x.as<std::byte>(), DType::f16, {1, 3, s}, Layout::channels_last);
    std::vector<std::byte> workspace = workspace_for(view);
    cuda::run_forward_sums({view, nullptr, problem.pivot.data(), sums.data()}, workspace.data(),
                           OnHost{});
  };
  sum(5);
  EXPECT_DEATH(sum(6), "");
}

TEST(CudaGuardedControl, AReadBeforeTheFirstElementIsFound) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const float value = 1;
  const Guarded guarded(&value, sizeof value, Guard::before);
  const auto* const first = guarded.as<volatile float>();
  EXPECT_EQ(*first, 1);
  EXPECT_DEATH(static_cast<void>(first[-1]), "");
}

}  // namespace
}  // namespace syncbn::test
