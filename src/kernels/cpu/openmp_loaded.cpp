// SPDX-License-Identifier: Apache-2.0
//
// A Python module does not know from which file the framework beside it has its OpenMP runtime. A
// second runtime would keep threads of its own, and not know how many the framework was told to
// use. So the functions are looked up when a kernel runs first: by then the framework has made a
// tensor.

#include <dlfcn.h>

#include "kernels/cpu/openmp.hpp"

namespace syncbn::kernels::cpu::openmp {
namespace {

/// The runtime's functions. GOMP_parallel is what GCC makes of a parallel region; the runtimes of
/// LLVM and Intel have it too.
struct Runtime {
  int (*get_num_procs)();
  int (*get_max_threads)();
  int (*get_thread_num)();
  int (*get_num_threads)();
  void (*parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
};

template <class Function>
bool look_up(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  return function != nullptr;
}

/// Looks the functions up: among those that are global in the process, where PyTorch puts its
/// runtime, then in GCC's runtime, which is loaded if the system has it. Returns whether it has
/// all.
bool find(Runtime& runtime) {
  void* library = RTLD_DEFAULT;
  if (!look_up(library, "GOMP_parallel", runtime.parallel)) {
    library = dlopen("libgomp.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      return false;
    }
  }
  return look_up(library, "omp_get_num_procs", runtime.get_num_procs) &&
         look_up(library, "omp_get_max_threads", runtime.get_max_threads) &&
         look_up(library, "omp_get_thread_num", runtime.get_thread_num) &&
         look_up(library, "omp_get_num_threads", runtime.get_num_threads) &&
         look_up(library, "GOMP_parallel", runtime.parallel);
}

/// Returns the process's runtime, null where there is none.
const Runtime* runtime() {
  static Runtime found{};
  static const bool complete = find(found);
  return complete ? &found : nullptr;
}

}  // namespace

int processors() {
  return runtime() != nullptr ? runtime()->get_num_procs() : 1;
}

int max_threads() {
  return runtime() != nullptr ? runtime()->get_max_threads() : 1;
}

void parallel(int threads, void (*body)(const void* context, int thread, int threads),
              const void* context) {
  const Runtime* const openmp = runtime();
  if (openmp == nullptr) {
    body(context, 0, 1);
    return;
  }
  struct Call {
    void (*body)(const void*, int, int);
    const void* context;
    const Runtime& openmp;
  } call{body, context, *openmp};
  openmp->parallel(
      [](void* data) {
        const Call& of = *static_cast<const Call*>(data);
        of.body(of.context, of.openmp.get_thread_num(), of.openmp.get_num_threads());
      },
      &call, static_cast<unsigned>(threads), 0);
}

}  // namespace syncbn::kernels::cpu::openmp
