// SPDX-License-Identifier: Apache-2.0
#include "syncbn/c/device.h"

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "capi/device_handles.hpp"
#include "capi/guarded.hpp"
#include "capi/handles.hpp"

using namespace syncbn;
using capi::guarded;
using capi::require;

namespace {

/// Memory that C programs were given. A pointer is all that they give back.
struct Given {
  std::mutex mutex;
  std::map<void*, std::shared_ptr<void>> owners;
};

Given& given_memory() {
  static auto* const all = new Given;  // programs may give memory back while the process ends
  return *all;
}

}  // namespace

syncbn_status syncbn_device_memory_new(size_t bytes, void** out) {
  return guarded([&] {
    require(out, "out");
    std::shared_ptr<void> memory = allocate_device_memory(bytes);
    Given& all = given_memory();
    const std::scoped_lock lock(all.mutex);
    *out = memory.get();
    all.owners.emplace(memory.get(), std::move(memory));
  });
}

void syncbn_device_memory_free(void* memory) {
  Given& all = given_memory();
  const std::scoped_lock lock(all.mutex);
  all.owners.erase(memory);
}

syncbn_status syncbn_device_communicator_self(syncbn_device_communicator** out) {
  return guarded([&] {
    require(out, "out");
    *out = new syncbn_device_communicator{DeviceCommunicator::self()};
  });
}

syncbn_status syncbn_device_communicator_staged(const syncbn_communicator* host,
                                                const syncbn_communicator_options* options,
                                                syncbn_device_communicator** out) {
  return guarded([&] {
    require(host, "host");
    require(out, "out");
    *out = new syncbn_device_communicator{
        DeviceCommunicator::staged(host->group, capi::to_deadlines(options))};
  });
}

syncbn_status syncbn_device_communicator_nccl(const syncbn_communicator* bootstrap,
                                              const syncbn_communicator_options* options,
                                              syncbn_device_communicator** out) {
  return guarded([&] {
    require(bootstrap, "bootstrap");
    require(out, "out");
    *out = new syncbn_device_communicator{
        DeviceCommunicator::nccl(bootstrap->group, capi::to_deadlines(options))};
  });
}

syncbn_status syncbn_device_communicator_custom(const syncbn_communicator* host,
                                                syncbn_device_all_reduce all_reduce,
                                                syncbn_abort abort, void* user,
                                                const syncbn_communicator_options* options,
                                                syncbn_device_communicator** out) {
  return guarded([&] {
    require(host, "host");
    require(reinterpret_cast<const void*>(all_reduce), "all_reduce");
    require(out, "out");
    const auto sum = [all_reduce, user](double* values, std::size_t count, CudaStream stream) {
      if (const int failure = all_reduce(values, count, stream, user); failure != 0) {
        throw CommError("the custom all-reduce returned " + std::to_string(failure));
      }
    };
    *out = new syncbn_device_communicator{DeviceCommunicator::custom(
        host->group, sum, capi::to_deadlines(options),
        abort == nullptr ? DeviceCommunicator::Abort() : [abort, user] { abort(user); })};
  });
}

syncbn_status syncbn_device_communicator_split(const syncbn_device_communicator* group, int color,
                                               syncbn_device_communicator** out) {
  return guarded([&] {
    require(group, "group");
    require(out, "out");
    *out = new syncbn_device_communicator{group->group.split(color)};
  });
}

syncbn_status syncbn_device_communicator_all_reduce(const syncbn_device_communicator* group,
                                                    double* values, size_t length,
                                                    syncbn_cuda_stream stream) {
  return guarded([&] {
    require(group, "group");
    require(values, "values");
    capi::to_span(values, length, "values");
    group->group.all_reduce(values, length, stream);
  });
}

syncbn_status syncbn_device_communicator_poll(const syncbn_device_communicator* group) {
  return guarded([&] {
    require(group, "group");
    group->group.poll();
  });
}

syncbn_status syncbn_device_communicator_synchronize(const syncbn_device_communicator* group,
                                                     syncbn_cuda_stream stream) {
  return guarded([&] {
    require(group, "group");
    group->group.synchronize(stream);
  });
}

syncbn_device syncbn_device_communicator_device(const syncbn_device_communicator* group) {
  return capi::value_of(
      group, "group",
      [&] { return static_cast<syncbn_device>(SYNCBN_ON_CUDA(group->group.device().index())); },
      static_cast<syncbn_device>(SYNCBN_ON_CPU));
}

int syncbn_device_communicator_rank(const syncbn_device_communicator* group) {
  return capi::value_of(
      group, "group", [&] { return group->group.rank(); }, -1);
}

int syncbn_device_communicator_size(const syncbn_device_communicator* group) {
  return capi::value_of(group, "group", [&] { return group->group.size(); });
}

void syncbn_device_communicator_free(syncbn_device_communicator* group) {
  delete group;
}
