// SPDX-License-Identifier: Apache-2.0
//
// The NCCL of the process, or the one that the dynamic loader finds.

#include <dlfcn.h>
#include <string>

#include "comm/nccl/device_sharing.hpp"
#include "comm/nccl/library.hpp"

namespace syncbn::comm::nccl {
namespace {

constexpr const char* file_name = "libnccl.so.2";
constexpr int least_version = 21900;  ///< the first whose non-blocking communicators can be split
static_assert(NCCL_VERSION_CODE >= least_version, "nccl.h of NCCL 2.19 or newer is needed");

/// Returns a handle for dlsym: of the NCCL that the process has, or of the one that is opened.
void* open_nccl() {
  // A program may have NCCL inside, or have preloaded it.
  if (dlsym(RTLD_DEFAULT, "ncclGetVersion") != nullptr) {
    return RTLD_DEFAULT;
  }
  // If a library of that name is loaded, the loader returns it, though a Python module may have
  // loaded it for itself alone.
  void* handle = dlopen(file_name, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    refuse(dlerror());
  }
  return handle;
}

/// Finds functions in one NCCL, which is new enough.
class Functions {
 public:
  Functions() : handle_(open_nccl()) {
    decltype(&ncclGetVersion) get_version = nullptr;
    find(get_version, "ncclGetVersion");
    Dl_info where{};
    if (dladdr(reinterpret_cast<const void*>(get_version), &where) != 0) {
      file_ = where.dli_fname;
    }
    int version = 0;
    if (get_version(&version) != ncclSuccess || version < least_version) {
      refuse(file_ + " is version " + version_text(version));
    }
  }

  template <class Function>
  void find(Function*& function, const char* name) const {
    function = reinterpret_cast<Function*>(dlsym(handle_, name));
    if (function == nullptr) {
      refuse(file_ + " has no " + name);
    }
  }

 private:
  void* handle_;
  std::string file_ = file_name;
};

Library load() {
  const Functions functions;
  Library library{};
  functions.find(library.GetVersion, "ncclGetVersion");
  functions.find(library.GetErrorString, "ncclGetErrorString");
  functions.find(library.GetLastError, "ncclGetLastError");
  functions.find(library.GetUniqueId, "ncclGetUniqueId");
  functions.find(library.CommInitRankConfig, "ncclCommInitRankConfig");
  functions.find(library.CommSplit, "ncclCommSplit");
  functions.find(library.CommUserRank, "ncclCommUserRank");
  functions.find(library.CommGetAsyncError, "ncclCommGetAsyncError");
  functions.find(library.CommFinalize, "ncclCommFinalize");
  functions.find(library.CommDestroy, "ncclCommDestroy");
  functions.find(library.CommAbort, "ncclCommAbort");
  functions.find(library.AllReduce, "ncclAllReduce");
  return library;
}

}  // namespace

const Library& library() {
  static const Library loaded = load();  // if this throws, the next call tries again
  return loaded;
}

std::string version() {
  return version_text(version_code());
}

}  // namespace syncbn::comm::nccl
