// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "syncbn/error.hpp"

#include "core/utf8.hpp"

#include "capi/guarded.hpp"
#include "capi/handles.hpp"
#include "capi/structs.hpp"

using namespace syncbn;
using capi::guarded;
using capi::require;

void syncbn_set_report_handler(syncbn_report_handler handler, void* user) {
  if (handler == nullptr) {
    set_report_handler({});
    return;
  }
  set_report_handler(
      [handler, user](std::string_view line) { handler(to_utf8(line).c_str(), user); });
}

syncbn_status syncbn_set_flight_record_directory(const char* directory) {
  return guarded([&] { set_flight_record_directory(directory == nullptr ? "" : directory); });
}

syncbn_status syncbn_communicator_self(syncbn_communicator** out) {
  return guarded([&] {
    require(out, "out");
    *out = new syncbn_communicator{Communicator::self()};
  });
}

syncbn_status syncbn_communicator_threads(int ranks, const syncbn_communicator_options* options,
                                          syncbn_communicator** out) {
  return guarded([&] {
    require(out, "out");
    std::vector<std::unique_ptr<syncbn_communicator>> handles;
    for (Communicator& group : Communicator::threads(ranks, capi::to_deadlines(options))) {
      handles.push_back(
          std::make_unique<syncbn_communicator>(syncbn_communicator{std::move(group)}));
    }
    for (std::unique_ptr<syncbn_communicator>& handle : handles) {
      *out++ = handle.release();
    }
  });
}

syncbn_status syncbn_communicator_custom(int rank, int size, syncbn_all_reduce all_reduce,
                                         void* user, syncbn_communicator** out) {
  return guarded([&] {
    require(out, "out");
    require(reinterpret_cast<const void*>(all_reduce), "all_reduce");
    *out = new syncbn_communicator{
        Communicator::custom(rank, size, [all_reduce, user](std::span<double> data) {
          if (const int code = all_reduce(data.data(), data.size(), user); code != 0) {
            throw CommError("the all_reduce callback returned " + std::to_string(code));
          }
        })};
  });
}

syncbn_status syncbn_communicator_processes(const syncbn_communicator* bootstrap,
                                            const syncbn_communicator_options* options,
                                            syncbn_communicator** out) {
  return guarded([&] {
    require(bootstrap, "bootstrap");
    require(out, "out");
    *out = new syncbn_communicator{
        Communicator::processes(bootstrap->group, capi::to_deadlines(options))};
  });
}

syncbn_status syncbn_communicator_split(const syncbn_communicator* group, int color,
                                        syncbn_communicator** out) {
  return guarded([&] {
    require(group, "group");
    require(out, "out");
    *out = new syncbn_communicator{group->group.split(color)};
  });
}

syncbn_status syncbn_communicator_split_by_samples(const syncbn_communicator* group, int64_t mine,
                                                   int64_t samples, syncbn_communicator** out) {
  return guarded([&] {
    require(group, "group");
    require(out, "out");
    *out = new syncbn_communicator{group->group.split_by_samples(mine, samples)};
  });
}

syncbn_status syncbn_communicator_start(const syncbn_communicator* group, double* data,
                                        size_t count, syncbn_pending* out) {
  return guarded([&] {
    require(group, "group");
    require(out, "out");
    const PendingSum sum = group->group.start(capi::to_span(data, count, "data"));
    static_assert(sizeof(PendingSum) <= sizeof(*out) && std::is_trivially_copyable_v<PendingSum>);
    *out = {};
    std::memcpy(out, &sum, sizeof(sum));
  });
}

syncbn_status syncbn_communicator_finish(const syncbn_communicator* group,
                                         const syncbn_pending* pending) {
  return guarded([&] {
    require(group, "group");
    require(pending, "pending");
    PendingSum sum;
    std::memcpy(static_cast<void*>(&sum), pending, sizeof(sum));
    group->group.finish(sum);
  });
}

syncbn_status syncbn_communicator_all_reduce(const syncbn_communicator* group, double* data,
                                             size_t count) {
  return guarded([&] {
    require(group, "group");
    group->group.all_reduce(capi::to_span(data, count, "data"));
  });
}

syncbn_status syncbn_communicator_counters(const syncbn_communicator* group, syncbn_counters* out) {
  return guarded([&] {
    require(group, "group");
    capi::read_struct(out, "out", syncbn_counters SYNCBN_COUNTERS_INIT);
    const Counters counters = group->group.counters();
    out->exchanges = counters.exchanges;
    out->bytes = counters.bytes;
    out->seconds = counters.seconds;
  });
}

syncbn_status syncbn_communicator_flight_record(const syncbn_communicator* group, char* buffer,
                                                size_t size, size_t* length) {
  return guarded([&] {
    require(group, "group");
    require(length, "length");
    if (size > 0) {
      require(buffer, "buffer");
    }
    const std::string record = group->group.flight_record();
    *length = record.size();
    if (size > 0) {
      buffer[record.copy(buffer, size - 1)] = '\0';
    }
  });
}

int syncbn_communicator_rank(const syncbn_communicator* group) {
  return capi::value_of(
      group, "group", [&] { return group->group.rank(); }, -1);
}

int syncbn_communicator_size(const syncbn_communicator* group) {
  return capi::value_of(group, "group", [&] { return group->group.size(); });
}

void syncbn_communicator_free(syncbn_communicator* group) {
  delete group;
}
