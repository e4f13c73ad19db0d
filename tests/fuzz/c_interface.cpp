// SPDX-License-Identifier: Apache-2.0
//
// The input is a series of calls of the C interface on a group of one rank, with arguments that are
// right, wrong, or missing. Memory is as large as a right call needs, so that the address sanitizer
// sees one that goes beyond. What the header promises of every call is checked: a status with a
// message, and nothing changed by a call that was refused.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fuzzer/FuzzedDataProvider.h>

#include "syncbn/c/syncbn.h"

#include "fuzz/expect.hpp"
#include "fuzz/memory_directory.hpp"
#include "fuzz/target.hpp"

namespace syncbn::fuzz {
namespace {

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t odd_extents[] = {0, -1, most, most / 2 + 1, -most - 1};

/// Memory of exactly so many bytes.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : bytes_(std::make_unique<std::byte[]>(bytes)), size_(bytes) {}
  std::byte* data() { return bytes_.get(); }
  std::size_t size() const { return size_; }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t size_;
};

struct Extents {
  syncbn_dtype dtype;
  syncbn_layout layout;
  std::int64_t n, c, s;
};

std::size_t size_of(syncbn_dtype dtype) {
  return dtype == SYNCBN_F64 ? 8 : dtype == SYNCBN_F32 ? 4 : 2;
}

/// What a call that is refused must not change.
struct Numbers {
  std::vector<double> values;
  std::int64_t batches;
};

class Calls {
 public:
  Calls(const std::uint8_t* data, std::size_t size) : input_(data, size) {
    expect(syncbn_communicator_self(&group_) == SYNCBN_OK, "a group of one can be had");
  }
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;
  ~Calls() {
    for (Slot& slot : slots_) {
      syncbn_batch_norm_free(slot.layer);
      syncbn_forward_record_free(slot.record);
    }
    syncbn_communicator_free(group_);
  }

  void run() {
    for (int calls = 0; calls < 40 && input_.remaining_bytes() > 0; ++calls) {
      one_call();
      memory_.clear();
    }
  }

 private:
  struct Slot {
    syncbn_batch_norm* layer = nullptr;
    syncbn_forward_record* record = nullptr;
    std::int64_t channels = 0;
  };

  int up_to(int last) { return input_.ConsumeIntegralInRange(0, last); }
  /// One time in sixteen.
  bool seldom() { return up_to(15) == 0; }
  Slot& slot() { return slots_[static_cast<std::size_t>(up_to(1))]; }

  void one_call() {
    switch (up_to(11)) {
      case 0:
      case 1:
        return make_layer();
      case 2:
      case 3:
      case 4:
        return forward();
      case 5:
      case 6:
        return backward();
      case 7:
        return infer();
      case 8:
        return in_place();
      case 9:
        return save_and_load();
      case 10:
        return phases();
      default:
        return small_calls();
    }
  }

  /// That a call kept what holds for all.
  void check(syncbn_status status) {
    expect(status >= SYNCBN_OK && status <= SYNCBN_DEVICE_ERROR, "a status is one of the list");
    const std::string why = status == SYNCBN_OK ? "" : syncbn_last_error();
    expect(status != SYNCBN_INTERNAL_ERROR, "no argument is an internal error, but: " + why);
    expect(status != SYNCBN_COMM_ERROR, "a rank alone agrees with itself, but: " + why);
    expect(status == SYNCBN_OK || !why.empty(), "a failure has a message");
  }

  /// Calls, and checks that a refusal changed nothing of the layer.
  template <class Call>
  syncbn_status checked(const Slot& slot, Call call) {
    const Numbers before = numbers_of(slot);
    const syncbn_status status = call();
    check(status);
    expect(status == SYNCBN_OK || same(numbers_of(slot), before), "a refused call changes nothing");
    return status;
  }

  static bool same(const Numbers& a, const Numbers& b) {  // to the bit, NaNs included
    return a.batches == b.batches && a.values.size() == b.values.size() &&
           (a.values.empty() ||
            std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(double)) == 0);
  }

  static Numbers numbers_of(const Slot& slot) {
    Numbers numbers{{}, 0};
    if (slot.layer == nullptr) {
      return numbers;
    }
    for (const double* part :
         {syncbn_batch_norm_weight(slot.layer), syncbn_batch_norm_bias(slot.layer),
          syncbn_batch_norm_weight_grad(slot.layer), syncbn_batch_norm_bias_grad(slot.layer),
          syncbn_batch_norm_running_mean(slot.layer), syncbn_batch_norm_running_var(slot.layer)}) {
      if (part != nullptr) {
        numbers.values.insert(numbers.values.end(), part, part + slot.channels);
      }
    }
    const int64_t* batches = syncbn_batch_norm_num_batches_tracked(slot.layer);
    numbers.batches = batches != nullptr ? *batches : 0;
    return numbers;
  }

  // --- arguments ---------------------------------------------------------------------------------

  double number() {
    constexpr double odd[] = {0,
                              -1,
                              1e300,
                              -1e-300,
                              std::numeric_limits<double>::infinity(),
                              std::numeric_limits<double>::quiet_NaN()};
    return seldom() ? odd[up_to(5)] : input_.ConsumeFloatingPointInRange(0.0, 1.0);
  }

  Extents extents(std::int64_t channels) {
    Extents extents{up_to(3), up_to(1), up_to(4), seldom() ? up_to(5) : channels, up_to(6)};
    if (seldom()) {
      extents.dtype = up_to(9) - 3;
    }
    if (seldom()) {
      extents.layout = up_to(5) - 2;
    }
    return extents;
  }

  std::byte* bytes(std::size_t size) {
    Memory& memory = memory_.emplace_back(size);
    const std::string some = input_.ConsumeBytesAsString(size);
    std::memcpy(memory.data(), some.data(), some.size());
    return memory.data();
  }

  /// A tensor of these extents in memory of its own, with small values or any bits at all.
  syncbn_tensor tensor(const Extents& extents) {
    const auto count = static_cast<std::size_t>(extents.n * extents.c * extents.s);
    syncbn_tensor tensor =
        SYNCBN_TENSOR(nullptr, extents.dtype, extents.layout, extents.n, extents.c, extents.s);
    if (seldom()) {
      tensor.data = bytes(count * size_of(extents.dtype));
    } else if (extents.dtype == SYNCBN_F64) {
      tensor.data = values<double>(count);
    } else if (extents.dtype == SYNCBN_F32) {
      tensor.data = values<float>(count);
    } else {
      tensor.data = bytes(count * 2);
    }
    if (seldom()) {
      spoil(tensor);
    }
    return tensor;
  }

  /// Makes it a tensor that is to be refused, or is empty: nobody may look at its memory.
  void spoil(syncbn_tensor& tensor) {
    std::int64_t* extents[] = {&tensor.n, &tensor.c, &tensor.s};
    switch (up_to(3)) {
      case 0:
        tensor.data = nullptr;
        return;
      case 1:
        tensor.data = static_cast<std::byte*>(tensor.data) + 1;  // aligned for no type
        return;
      case 2:
        *extents[up_to(2)] = odd_extents[up_to(4)];
        return;
      default:
        tensor.n = 0;
        *extents[up_to(2)] = odd_extents[up_to(4)];
    }
  }

  template <class T>
  T* values(std::size_t count) {
    std::byte* memory = memory_.emplace_back(count * sizeof(T)).data();
    for (std::size_t i = 0; i < count; ++i) {
      const T value = static_cast<T>(input_.ConsumeIntegral<std::int8_t>()) / 16;
      std::memcpy(memory + i * sizeof(T), &value, sizeof value);
    }
    return reinterpret_cast<T*>(memory);
  }

  /// Weights of positions, or none.
  const float* weights(const syncbn_tensor& x) {
    if (up_to(3) != 0 || x.n < 0 || x.s < 0 || x.n > 4 || x.s > 6) {
      return nullptr;
    }
    float* weights = values<float>(static_cast<std::size_t>(x.n * x.s));
    for (std::int64_t i = 0; i < x.n * x.s; ++i) {
      weights[i] = seldom() ? weights[i] : std::abs(weights[i]);
    }
    return weights;
  }

  const syncbn_tensor* optional(const syncbn_tensor& tensor) {
    return up_to(3) == 0 ? &tensor : nullptr;
  }

  // --- calls -------------------------------------------------------------------------------------

  void make_layer() {
    Slot& at = slot();
    syncbn_batch_norm_free(at.layer);
    at.layer = nullptr;
    if (at.record == nullptr || seldom()) {
      syncbn_forward_record_free(at.record);
      at.record = nullptr;
      expect(syncbn_forward_record_new(&at.record) == SYNCBN_OK, "a record can be had");
    }
    syncbn_options options SYNCBN_OPTIONS_INIT;
    const std::string name = input_.ConsumeRandomLengthString(8);
    options.name = seldom() ? name.c_str() : "layer";
    options.eps = seldom() ? number() : 1e-5;
    options.momentum = seldom() ? number() : 0.1;
    options.affine = up_to(3) > 0;
    options.track_running_stats = up_to(3) > 0;
    options.negative_slope = number();
    options.group_parameter_gradients = up_to(1);
    options.channel_blocks = seldom() ? odd_extents[up_to(4)] : up_to(3);
    options.exact = up_to(1);
    options.compare_parameters = up_to(1);
    options.backend = seldom() ? up_to(5) - 2 : up_to(1);
    at.channels = seldom() ? odd_extents[up_to(4)] : up_to(5);
    const bool defaults = seldom();
    const syncbn_status status = syncbn_batch_norm_new(at.channels, seldom() ? nullptr : group_,
                                                       defaults ? nullptr : &options, &at.layer);
    check(status);
    expect((status == SYNCBN_OK) == (at.layer != nullptr), "a call that fails gives no handle");
  }

  void forward() {
    Slot& at = slot();
    const Extents extents = this->extents(at.channels);
    if (!usable(extents)) {
      return;
    }
    const syncbn_tensor x = tensor(extents), y = tensor(extents), residual = tensor(extents);
    checked(at, [&] {
      return syncbn_batch_norm_forward(at.layer, &x, optional(residual), weights(x),
                                       up_to(3) == 0 ? &x : &y, at.record, NULL);
    });
  }

  void backward() {
    Slot& at = slot();
    const Extents extents = this->extents(at.channels);
    if (!usable(extents)) {
      return;
    }
    const syncbn_tensor x = tensor(extents), y = tensor(extents), dy = tensor(extents),
                        dx = tensor(extents), dresidual = tensor(extents);
    const bool with_residual = up_to(3) == 0;
    checked(at, [&] {
      return syncbn_batch_norm_backward(at.layer, at.record, &x, with_residual ? &y : nullptr, &dy,
                                        weights(x), up_to(3) == 0 ? &dy : &dx,
                                        with_residual ? &dresidual : nullptr, NULL);
    });
  }

  void infer() {
    Slot& at = slot();
    const Extents extents = this->extents(at.channels);
    if (!usable(extents)) {
      return;
    }
    const syncbn_tensor x = tensor(extents), y = tensor(extents), residual = tensor(extents);
    checked(at, [&] {
      return syncbn_batch_norm_infer(at.layer, &x, optional(residual), weights(x), &y,
                                     up_to(3) == 0 ? at.record : nullptr, NULL);
    });
  }

  void in_place() {
    Slot& at = slot();
    const Extents extents = this->extents(at.channels);
    if (!usable(extents)) {
      return;
    }
    const syncbn_tensor x = tensor(extents), dy = tensor(extents), dx = tensor(extents);
    const float* weight = weights(x);
    const syncbn_status status = checked(at, [&] {
      return syncbn_batch_norm_forward_in_place(at.layer, &x, weight, at.record, NULL);
    });
    if (status == SYNCBN_OK || seldom()) {
      checked(at, [&] {
        return syncbn_batch_norm_backward_in_place(at.layer, at.record, &x, &dy, weight, &dx, NULL);
      });
    }
  }

  void save_and_load() {
    static const MemoryDirectory directory;
    const std::string file = directory.path() / "layer";
    Slot& at = slot();
    const Numbers before = numbers_of(at);
    if (checked(at, [&] { return syncbn_batch_norm_save(at.layer, file.c_str(), NULL); }) ==
            SYNCBN_OK &&
        checked(at, [&] { return syncbn_batch_norm_load(at.layer, file.c_str(), NULL); }) ==
            SYNCBN_OK) {
      expect(same(numbers_of(at), before), "a layer round-trips through its file");
    }
  }

  void phases() {
    const std::int64_t channels = up_to(5);
    const Extents extents = this->extents(channels);
    if (!usable(extents)) {
      return;
    }
    const auto c = static_cast<std::size_t>(extents.c);
    const syncbn_tensor x = tensor(extents), y = tensor(extents), dy = tensor(extents);
    const float* weight = weights(x);
    double* pivot = values<double>(c);
    double* sums = values<double>(2 * c + 1);
    double *mean = values<double>(c), *var = values<double>(c), *invstd = values<double>(c);
    syncbn_pass pass = SYNCBN_PASS_INIT;
    pass.position_weights = weight;
    pass.mean = mean;
    pass.invstd = invstd;
    pass.gamma = {values<double>(c), SYNCBN_F64};
    pass.beta = {values<double>(c), SYNCBN_F64};
    pass.negative_slope = number();
    pass.residual = optional(y);
    pass.dy = &dy;
    pass.y = optional(y);
    syncbn_phase_options options = SYNCBN_PHASE_OPTIONS_INIT;
    options.backend = up_to(1);
    double count = 0;
    check(syncbn_forward_sums(&x, weight, pivot, sums, &options));
    check(syncbn_finalize(extents.c, sums, pivot, number(), mean, var, invstd, &count));
    check(syncbn_normalize(&x, &pass, &y, &options));
    check(syncbn_backward_sums(&x, &pass, sums, &options));
    check(syncbn_input_gradient(&x, &pass, sums, &y, nullptr, &options));
    batches(extents, pivot, sums, mean, var, invstd);
  }

  /// What a layer decides between the phases.
  void batches(const Extents& extents, double* pivot, const double* sums, double* mean, double* var,
               double* invstd) {
    const auto c = static_cast<std::size_t>(extents.c);
    syncbn_batch_state state = SYNCBN_BATCH_STATE_INIT;
    std::int64_t number_of_batches = up_to(3);
    double count = 0;
    int any = 0;
    std::uint64_t digest = 0;
    state.channels = extents.c;
    state.pivot = pivot;
    if (!seldom()) {
      state.running_mean = {values<double>(c), SYNCBN_F64};
      state.running_var = {values<double>(c), up_to(3)};
      state.start_mean = values<double>(c);
      state.start_var = values<double>(c);
      state.num_batches_tracked = &number_of_batches;
    }
    check(syncbn_expect_batch(&state, number(), extents.dtype, nullptr));
    check(syncbn_move_far_pivots(extents.c, sums, pivot, number(), extents.dtype, up_to(5), &any));
    check(syncbn_finalize_batch(sums, &state, number(), number(), extents.dtype, mean, var, invstd,
                                &count, nullptr));
    check(syncbn_state_digest(&state, {nullptr, SYNCBN_F64}, {nullptr, SYNCBN_F64}, &digest,
                              nullptr));
  }

  void small_calls() {
    Slot& at = slot();
    switch (up_to(4)) {
      case 0:
        if (at.layer != nullptr) {
          syncbn_batch_norm_zero_grad(at.layer, NULL);
        }
        return;
      case 1:
        expect(syncbn_sums_length(odd_extents[1]) == 0, "no sums of less than one channel");
        return;
      case 2: {
        double values[] = {number(), number()};
        const double before[] = {values[0], values[1]};
        check(syncbn_communicator_all_reduce(group_, values, 2));
        expect(std::memcmp(values, before, sizeof values) == 0, "a sum over one rank is its value");
        return;
      }
      case 3: {
        syncbn_communicator* part = nullptr;
        const syncbn_status status = syncbn_communicator_split_by_samples(
            group_, odd_extents[up_to(4)], odd_extents[up_to(4)], &part);
        check(status);
        expect((status == SYNCBN_OK) == (part != nullptr), "a call that fails gives no handle");
        syncbn_communicator_free(part);
        return;
      }
      default:
        check(syncbn_batch_norm_save(at.layer, nullptr, NULL));
        check(syncbn_batch_norm_load(at.layer, "/dev/shm/no/such/file", NULL));
    }
  }

  /// Memory can be made for these extents.
  static bool usable(const Extents& extents) { return extents.c >= 0 && extents.c <= 5; }

  FuzzedDataProvider input_;
  syncbn_communicator* group_ = nullptr;
  std::array<Slot, 2> slots_;
  std::vector<Memory> memory_;
};

}  // namespace

void run(std::string_view input) {
  Calls(reinterpret_cast<const std::uint8_t*>(input.data()), input.size()).run();
}

}  // namespace syncbn::fuzz
