// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "syncbn/array_view.hpp"
#include "syncbn/communicator.hpp"
#include "syncbn/device.hpp"
#include "syncbn/device_communicator.hpp"
#include "syncbn/export.h"
#include "syncbn/phases.hpp"
#include "syncbn/state.hpp"

namespace syncbn {

/// A GradientScope says over which ranks a backward sums the parameter gradients.
enum class GradientScope : std::uint8_t {
  local,  ///< this rank alone: for trainers that reduce all gradients themselves, as DDP does
  group,  ///< the group, with the same result on every rank; costs no further message
};

/// A Reproducibility says what the bits of results may depend on.
enum class Reproducibility : std::uint8_t {
  /// Every rank gets the same bits, and so does every run with the same ranks. With another number
  /// of ranks, or another distribution of the batch, results agree up to rounding.
  rank_consistent,
  /// Outputs, input gradients, running statistics, and parameter gradients of the group have the
  /// same bits however many ranks there are and however the samples are distributed over them. They
  /// do not depend on threads, blocks of channels or transport either. They do depend on the
  /// layout; on the vector instructions (all those with fused multiplication and addition give the
  /// same); on whether weights are given (to all ranks or to none); and on the layer's earlier
  /// steps since it was made or since its last load_state.
  ///
  /// Terms are rounded to integers, in units that follow from earlier steps, and the integers are
  /// summed. Where a term does not fit, and in the first steps, a channel's sums are taken again,
  /// for that channel alone: two more reads of x and three more messages, in a forward up to twice
  /// (pivot_retries counts such forwards). Messages have 4C + 20 doubles forward and 5C + 20
  /// backward, for f64 8C + 20 and 9C + 20. There may be up to 2^19 ranks and 2^34 elements per
  /// channel, of any values.
  ///
  /// The relative error of var + eps is at most 2^-25 (f64: 1e-14), or with outliers n 2^-46 for n
  /// elements; usually it is smaller by orders of magnitude. The error of the mean is at most the
  /// same part of sqrt(var + eps), plus the rounding of double. Weights may be of any size, but
  /// where their average is below 2^-8, or some are far above 1, sums are taken twice in every
  /// step.
  exact,
};

/// BatchNormOptions configure a layer. Names and meanings are those of torch.nn.BatchNorm2d where
/// it has them. All but `backend` must be equal on all ranks.
struct BatchNormOptions {
  /// The layer's name in error messages. Ranks compare it. An empty one becomes "batch_norm.K",
  /// where K counts the group's unnamed layers, so construct these in the same order on every rank.
  /// Layers of the same name are counted in the order in which each rank constructs them over its
  /// communicator; if ranks call different ones of them, the call throws CommError.
  std::string name = {};
  double eps = 1e-5;
  /// The newest batch's weight in the running statistics, 0 to 1; none: the average of all batches.
  std::optional<double> momentum = 0.1;
  bool affine = true;
  bool track_running_stats = true;
  Activation activation = Activation::none;
  GradientScope parameter_gradients = GradientScope::local;
  /// A pass is cut into this many blocks of channels, each with a message of its own that travels
  /// while the next block is summed. With 0 the layer chooses blocks that stay in the cache between
  /// their two reads. It then makes one block of all channels where the whole tensor fits the
  /// cache, where messages are slow (together over a twentieth of a forward), or where a channel's
  /// elements lie apart (channels_last, planes below 32), as memory in small pieces is slower.
  /// Results do not depend on it, beyond rounding. A CUDA device takes all channels at once.
  std::int64_t channel_blocks = 0;
  Reproducibility reproducibility = Reproducibility::rank_consistent;
  Backend backend = Backend::cpu;  ///< what computes where the layer is on the CPU
  /// Makes ranks compare gamma and beta, bit by bit; false for parameters that are to differ. Each
  /// forward with batch statistics compares an eighth of the channels (at least 8), the next
  /// forward the next eighth; on a CUDA device it compares all. Where they differ, forward throws
  /// CommError.
  bool compare_parameters = true;
};

/// LayerMemory is memory of the caller's that a layer uses in place of its own: a framework's
/// parameters and buffers, of any float types, whatever the type of the tensors, the same types on
/// all ranks. The layer reads and writes it in every call, rounded to its type, and copies nothing.
/// What is given is taken as it is, what is left out is the layer's own (it allocates all arrays in
/// any case, 9C doubles). Arrays are on the layer's device, and must not overlap each other or the
/// tensors of a call.
///
/// The memory must stay until the layer is gone or BatchNorm::use has named other memory, and work
/// that is on streams by then is done. A captured CUDA graph goes on with the memory that it was
/// captured with.
///
/// Running statistics of 16-bit types lose what is small: in bf16, a mean stands still once a step
/// moves it by less than 1/256 of itself, and f16 cannot hold a variance above 65504. The layer
/// does not see when the caller writes other values to them, and goes on from the last batch's
/// mean: its next sums are exact nevertheless, but with Reproducibility::exact their bits follow
/// from earlier steps. load_state starts anew.
struct LayerMemory {
  // A float vector w converts; of 16-bit values write {w.data(), DType::bf16, C}, and on a device
  // {pointer, dtype, C, device}.
  ArrayView weight = {};        ///< [C] gamma; with bias, or neither
  ArrayView bias = {};          ///< [C] beta
  ArrayView weight_grad = {};   ///< [C] what backwards add to; with bias_grad, or neither
  ArrayView bias_grad = {};     ///< [C] likewise
  ArrayView running_mean = {};  ///< [C] with running_var, or neither
  ArrayView running_var = {};   ///< [C]
  std::int64_t* num_batches_tracked = nullptr;  ///< [1]
  /// Allocates what a layer that is made keeps per channel, records that it fills and, on a CUDA
  /// device, the partial sums of its kernels; the library allocates the rest, of the order of C. An
  /// owner can outlive the layer, in a record. Empty: the library allocates all. Not for
  /// BatchNorm::use. The library writes to the memory at once: no stream may be using it still.
  Allocate allocate = {};
};

/// A ForwardRecord holds what a backward needs from its forward, besides the tensors. Each forward
/// that is waiting for its backward needs one of its own. One that is reused from step to step does
/// not allocate. Its arrays are on the device of the layer that filled it last; layers of any
/// number of channels and on any device can fill it, one after the other.
class SYNCBN_API ForwardRecord {
 public:
  struct Impl;  ///< defined inside the library

  ForwardRecord();  ///< empty; the first forward allocates what it needs
  /// Makes an empty record that keeps its arrays in the caller's memory: length(channels) doubles
  /// on `device`, for layers of at most so many channels. The memory must stay until the backward,
  /// and its work on a stream, is done. Throws InvalidArgument for null, memory that is not
  /// aligned, or no channels.
  ForwardRecord(double* memory, std::int64_t channels, Device device = Device::cpu());
  /// What a record says of its forward, beside its arrays. For programs that keep both as tensors,
  /// as a compiler of graphs wants them.
  using Note = std::array<std::int64_t, 9>;
  /// Returns it; all 0 for an empty record.
  Note note() const;
  /// Makes a record again of its arrays, in the caller's memory as above, and its note, in the
  /// process and for the layer that filled it. Throws InvalidArgument for what is no note of a
  /// record for at most so many channels.
  ForwardRecord(double* memory, std::int64_t channels, Device device, const Note& note);
  /// A record that was moved from may only be destroyed or assigned to.
  ForwardRecord(ForwardRecord&&) noexcept;
  ForwardRecord& operator=(ForwardRecord&&) noexcept;
  ~ForwardRecord();

  /// Returns how many doubles a record needs for a layer of so many channels; 0 for less than one,
  /// or more than Shape::most_channels.
  static std::size_t length(std::int64_t channels);

  bool is_empty() const;  ///< no forward has filled it

  /// Return the statistics of the group's batch, [C] doubles in the memory of the layer's device,
  /// which stay until the record is filled again; empty before the first forward.
  std::span<const double> mean() const;
  std::span<const double> var() const;  ///< biased
  std::span<const double> invstd() const;
  /// Returns the elements per channel of the global batch, one double in that memory; 0 after an
  /// infer.
  std::span<const double> count() const;

 private:
  std::unique_ptr<Impl> impl_;
};

/// ForwardExtras are what a forward, or an infer, can be given besides its tensors.
struct ForwardExtras {
  std::optional<ConstTensorView> residual = std::nullopt;  ///< added before the activation
  /// Gives positions weights (see phases.hpp), in the memory of the layer's device: a trainer
  /// passes its mask of padding here. Every rank may have its own, or none. On a CUDA device the
  /// values are not checked; wrong ones give NaN or nonsense.
  PositionWeights position_weights = {};
  CudaStream stream = nullptr;  ///< where a layer on a CUDA device puts its work
};

/// BackwardExtras are what a backward can be given besides its tensors. Of y and weights, it needs
/// those that its forward had.
struct BackwardExtras {
  std::optional<ConstTensorView> y = std::nullopt;     ///< the output of a forward with a residual
  std::optional<TensorView> dresidual = std::nullopt;  ///< written: that residual's gradient
  PositionWeights position_weights = {};               ///< those of the forward
  CudaStream stream = nullptr;
};

/// Batch normalization (Ioffe & Szegedy 2015) with the statistics of the whole group's batch.
///
/// Ranks may hold any number of samples, also none. The result is that of one rank holding the
/// whole batch, up to rounding.
///
/// By default a backward's parameter gradients are this rank's own sums, as every other layer's of
/// a data-parallel trainer, to be all-reduced with them: see GradientScope.
///
/// `forward` and `backward` are collective over the group and take one all-reduce of 2C + 2 doubles
/// each, whatever the number of ranks; for tensors larger than the cache, after the first steps,
/// one such all-reduce for each block of channels (see BatchNormOptions::channel_blocks). A custom
/// communicator or MPI's own all-reduce is given 8 doubles more, and sums 8 by themselves before
/// the first message of each length. Sums are taken about a pivot, a guess of the mean that all
/// ranks share; if it was far off, a forward sums and exchanges once more (see pivot_retries).
///
/// The layer is where its communicator sums: on the CPU, or on a CUDA device. There, every call
/// puts its work on the caller's stream and returns; it waits for the device only if the group's
/// sums do. The group's device must be current in every call, and memory that is passed must not be
/// used otherwise until the stream is done with it. After the first steps no pass allocates, so
/// that passes over NCCL or a custom group can be captured in a CUDA graph.
///
/// On a device the terms of sums are floats (f64: doubles), and the layer cannot check whether the
/// pivot was near the mean, since the host would have to wait for the sums. So the first forward
/// after a start or a load_state takes its sums twice, the second time about the mean that the
/// first gave. Later pivots are within a standard deviation of the previous batch's mean: if a
/// channel's mean moves by k standard deviations from one step to the next, the relative error of
/// that step's variance is at most 7e-7 (1 + k)^2 (f64: the rounding of double). After a first
/// batch in which no rank has an element, the mean is still unknown, and the next forward's pivot
/// is 0.
///
/// With Reproducibility::exact, results on a device have the bits of those of the CPU with fused
/// multiplication and addition; except that a NaN may be another NaN, and that near the ends of
/// float's range the CPU computes in double. Which channels' sums must be taken again is found out
/// on the device, so all that this needs is put on the stream in every step: a forward has five
/// sums over the ranks, a backward three. The first, third and fifth have 4C + 11 doubles, in a
/// backward C more, for f64 4C more; the others have 6C doubles for one rank, 12C for 8, 26C for
/// 1024. x is read again only for channels that need it.
///
/// All calls compute as IEEE 754 says by default, rounding to nearest and keeping subnormal
/// numbers, however the calling thread and those of OpenMP are set, and leave their settings as
/// they were.
///
/// Tensors are on the layer's device, and their views say so. Memory that a call writes must not
/// overlap anything else that it is given, except where the call says that one tensor may be
/// another: then both begin at the same place. Tensors, weights and arrays are aligned to their
/// elements' size. Ranks call the same function: all with a residual or none, all in place or none.
/// Calls throw InvalidArgument for memory, and CommError for ranks, that break these rules.
///
/// A call that throws leaves parameters, gradients, running statistics and, on the CPU, the record
/// as they were; output tensors may have been written. On a CUDA device, a record that was to be
/// filled is empty then, unless the arguments were refused, and after a DeviceError all is lost.
/// After an exception that is none of ours, such as std::bad_alloc, the other ranks are told, or
/// find out at the deadline.
class SYNCBN_API BatchNorm {
 public:
  struct Impl;  ///< defined inside the library

  /// Local. Makes a layer of `channels` channels, 1 to Shape::most_channels, with gamma = 1, beta =
  /// 0, running_mean = 0 and running_var = 1 where `memory` does not say otherwise. Throws
  /// InvalidArgument for channels, options or memory that cannot be.
  BatchNorm(std::int64_t channels, Communicator group, BatchNormOptions options = {},
            const LayerMemory& memory = {});
  /// Local. Makes one on the group's CUDA device, and waits for the device.
  BatchNorm(std::int64_t channels, DeviceCommunicator group, BatchNormOptions options = {},
            const LayerMemory& memory = {});
  /// A layer that was moved from may only be destroyed or assigned to. Spans and references that it
  /// gave belong to the new one.
  BatchNorm(BatchNorm&&) noexcept;
  BatchNorm& operator=(BatchNorm&&) noexcept;
  ~BatchNorm();

  std::int64_t channels() const;
  const BatchNormOptions& options() const;
  Device device() const;
  /// Returns the communicator of a layer on the CPU; throws NotConfigured for another.
  const Communicator& communicator() const;
  /// Returns the communicator of a layer on a CUDA device; throws NotConfigured for another.
  const DeviceCommunicator& device_communicator() const;

  /// Local. From now on uses the arrays that are given, as they are, in place of those before;
  /// others stay. Throws InvalidArgument as the constructor does, and then uses none of them.
  void use(const LayerMemory& memory);

  /// Collective. Writes y = activation(normalized x [+ residual]) with the group's batch
  /// statistics, updates the running ones (their variance unbiased, as PyTorch's) and fills
  /// `record`. y may be x or the residual.
  ///
  /// A global batch of one element per channel gives y = beta before the activation, and does not
  /// move running_var; one without elements moves nothing.
  void forward(ConstTensorView x, TensorView y, ForwardRecord& record,
               const ForwardExtras& extras = {});

  /// Collective. Writes dx, and adds to weight_grad and bias_grad, with gamma as it was in the
  /// forward. x, `record` and the weights are those of the forward; for a forward with a residual,
  /// extras have its output y, which a layer without activation does not need, and take the
  /// residual's gradient. Either dx or dresidual may be dy.
  void backward(const ForwardRecord& record, ConstTensorView x, ConstTensorView dy, TensorView dx,
                const BackwardExtras& extras = {});

  /// Collective. Overwrites x with y, from which backward_in_place recovers the input, so that a
  /// trainer keeps one tensor instead of two (Rota Bulo, Porzi & Kontschieder 2018, In-Place
  /// Activated BatchNorm). Between the two calls nothing may write to it. Throws InvalidArgument
  /// before anything is written if there is a residual, or if the activation's slope, or a gamma,
  /// is smaller than the smallest normal float, 2^-126 (so relu, or a gamma of 0). On a CUDA
  /// device, gamma is not checked: such a channel gets no gradient of gamma.
  ///
  /// The backward sees y rounded to its type. With u the type's unit roundoff and z the value of y
  /// before the activation, (x - mean) / std is recovered to about u |z / gamma|: less accurately
  /// where |beta| is far above |gamma|. A z whose y underflows is lost.
  void forward_in_place(TensorView x, ForwardRecord& record, const ForwardExtras& extras = {});
  /// Collective. Does what `backward` does, with y as forward_in_place left it instead of x. dx may
  /// be dy.
  void backward_in_place(const ForwardRecord& record, ConstTensorView y, ConstTensorView dy,
                         TensorView dx, const BackwardExtras& extras = {});

  /// Local. Writes y as `forward` does, with the running statistics. Without track_running_stats it
  /// is collective and uses the group's batch statistics, from which the pivot of the next sums
  /// also follows.
  void infer(ConstTensorView x, TensorView y, const ForwardExtras& extras = {});
  /// Local. Does the same and fills `record` for a `backward`: training with frozen statistics, as
  /// detectors are fine-tuned. That backward writes dx = gamma * invstd * dz and adds to the
  /// parameter gradients as ever; it is local with GradientScope::local, else collective. Throws
  /// NotConfigured without track_running_stats.
  void infer(ConstTensorView x, TensorView y, ForwardRecord& record,
             const ForwardExtras& extras = {});

  // The functions below are local. Those that return spans return the layer's own arrays, [C] each,
  // in the memory of its device; empty where the options left them out, and where the memory is the
  // caller's. Spans stay valid as long as the layer. On a CUDA device, read and write them by work
  // on the streams that the layer's calls are given.

  /// Return gamma and beta. Write to them to update them; keep the values equal on all ranks (see
  /// BatchNormOptions::compare_parameters).
  std::span<double> weight();
  std::span<double> bias();
  /// Return the gradients of gamma and beta, summed over backwards since the last zero_grad.
  std::span<double> weight_grad();
  std::span<double> bias_grad();
  /// Sets the gradients to 0, also where they are the caller's.
  void zero_grad(CudaStream stream = nullptr);

  /// Return the running statistics. The pivot of the sums follows from them, so they must have the
  /// same bits on every rank; forward throws CommError if they have not.
  std::span<double> running_mean();
  std::span<double> running_var();
  /// Returns the address of the number of batches, in the memory of the layer's device, the
  /// caller's if it is; null without track_running_stats.
  std::int64_t* num_batches_tracked();

  /// Returns how many forwards had to take their sums again: usually at most one after a start, and
  /// those where activations jump. Such a forward does so once, and up to four times if the mean
  /// jumps by more than 1e15 standard deviations (16-bit types: 1e6). 0 on a CUDA device, where the
  /// host does not learn it.
  std::int64_t pivot_retries() const;

  /// Adds the layer's state to `state`, under the names of PyTorch's state_dict: `prefix` + weight,
  /// bias, running_mean, running_var (F64, [C]) and num_batches_tracked (I64), those which the
  /// layer has. Throws FileError if a value is not finite, which load_state would refuse; some may
  /// be added by then. On a CUDA device, it and the functions below wait for the stream.
  void save_state(StateDict& state, std::string_view prefix = {},
                  CudaStream stream = nullptr) const;
  /// Takes the layer's state from `state`, from F16, BF16, F32 or F64. Throws FileError if an entry
  /// is missing, of another length or not finite, or a variance is negative; then the layer is as
  /// it was. num_batches_tracked may also be of any integer type, and is 0 if it is missing, as in
  /// PyTorch. Other entries of `state` are ignored.
  void load_state(const StateDict& state, std::string_view prefix = {},
                  CudaStream stream = nullptr);

  /// Local. Takes the mean and variance of a population as running statistics, the variance
  /// unbiased (count / (count - 1)), and forgets the last batches as load_state does;
  /// num_batches_tracked stays. A count of 0 changes nothing, one below 2 leaves running_var. Give
  /// the same on every rank. Throws InvalidArgument, and changes nothing, for another number of
  /// channels, values or a count that are not finite, values too large for the array that keeps
  /// them, and a negative variance or count; NotConfigured without track_running_stats.
  void set_running_statistics(const Statistics& population, CudaStream stream = nullptr);

  /// Write and read a safetensors file of this layer alone; see save_safetensors. `load` throws
  /// FileError as load_state does, and for entries that are not the layer's.
  void save(const std::filesystem::path& file, CudaStream stream = nullptr) const;
  void load(const std::filesystem::path& file, CudaStream stream = nullptr);

 private:
  std::unique_ptr<Impl> impl_;
};

/// A ForwardCall holds the arguments of one BatchNorm::forward, for forward_together.
struct ForwardCall {
  BatchNorm& layer;
  ConstTensorView x;
  TensorView y;
  ForwardRecord& record;
  ForwardExtras extras = {};
};

/// A BackwardCall holds the arguments of one BatchNorm::backward, for backward_together.
struct BackwardCall {
  BatchNorm& layer;
  const ForwardRecord& record;
  ConstTensorView x;
  ConstTensorView dy;
  TensorView dx;
  BackwardExtras extras = {};
};

/// Collective. Run the forwards, or the backwards, of several layers of one communicator that are
/// ready at the same time, as in parallel branches, with one message for all: 2C + 2 doubles for
/// each layer, one after the other. Ranks give the same layers in the same order, each once.
/// Results are those of separate calls. This is worth it for small tensors: none is cut into
/// blocks.
///
/// Throw what the separate calls throw, InvalidArgument for layers of different communicators, a
/// layer or record given twice, or a call that writes what another is given, and NotConfigured for
/// a layer on a CUDA device.
SYNCBN_API void forward_together(std::span<const ForwardCall> calls);
SYNCBN_API void backward_together(std::span<const BackwardCall> calls);

}  // namespace syncbn
