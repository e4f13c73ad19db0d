// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <vector>

#include "syncbn/error.hpp"

#include "capi/guarded.hpp"
#include "capi/handles.hpp"

using namespace syncbn;
using capi::guarded;
using capi::require;

syncbn_status syncbn_communicator_self(syncbn_communicator** out) {
  return guarded([&] {
    require(out, "out");
    *out = new syncbn_communicator{Communicator::self()};
  });
}

syncbn_status syncbn_communicator_threads(int ranks, double timeout_seconds,
                                          syncbn_communicator** out) {
  return guarded([&] {
    require(out, "out");
    std::vector<std::unique_ptr<syncbn_communicator>> handles;
    for (Communicator& group : Communicator::threads(ranks, capi::to_timeout(timeout_seconds))) {
      handles.push_back(std::make_unique<syncbn_communicator>(std::move(group)));
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

syncbn_status syncbn_communicator_split(const syncbn_communicator* group, int color,
                                        syncbn_communicator** out) {
  return guarded([&] {
    require(group, "group");
    require(out, "out");
    *out = new syncbn_communicator{group->group.split(color)};
  });
}

syncbn_status syncbn_communicator_all_reduce(const syncbn_communicator* group, double* data,
                                             size_t count) {
  return guarded([&] {
    require(group, "group");
    if (count != 0) {
      require(data, "data");
    }
    group->group.all_reduce({data, count});
  });
}

int syncbn_communicator_rank(const syncbn_communicator* group) {
  return group->group.rank();
}

int syncbn_communicator_size(const syncbn_communicator* group) {
  return group->group.size();
}

void syncbn_communicator_free(syncbn_communicator* group) {
  delete group;
}
