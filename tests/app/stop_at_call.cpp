// SPDX-License-Identifier: Apache-2.0
//
// To be preloaded into ranks of MPI: stops one of them, as by Ctrl-Z, when it is about to make its
// k-th call of MPI that sends something or that several ranks make together. Looks at requests and
// questions that a rank can answer by itself are not counted: their number depends on the time.
//
//   SYNCBN_STOP_RANK    the rank's number in MPI_COMM_WORLD
//   SYNCBN_STOP_CALL    k = 1, 2, ...; 0 for none
//   SYNCBN_STOP_LIST    a file to which that rank adds the name of each call that is counted

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>

#include <mpi.h>

namespace {

std::string from_environment(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? "" : text;
}

/// As the launchers of Open MPI and MPICH tell it; "" without one.
std::string own_rank() {
  const std::string open_mpi = from_environment("OMPI_COMM_WORLD_RANK");
  return open_mpi.empty() ? from_environment("PMI_RANK") : open_mpi;
}

void about_to(const char* call) {
  static const bool counts =
      !own_rank().empty() && own_rank() == from_environment("SYNCBN_STOP_RANK");
  static const int stop_at = std::atoi(from_environment("SYNCBN_STOP_CALL").c_str());
  static int calls = 0;
  if (!counts) {
    return;
  }
  ++calls;
  if (const std::string list = from_environment("SYNCBN_STOP_LIST"); !list.empty()) {
    if (std::FILE* file = std::fopen(list.c_str(), "a")) {
      std::fprintf(file, "%s\n", call);
      std::fclose(file);
    }
  }
  if (calls == stop_at) {
    std::fprintf(stderr, "stopped before call %d, %s\n", calls, call);
    kill(getpid(), SIGSTOP);
  }
}

}  // namespace

// NAME, its parameters, their names.
#define SYNCBN_COUNTED(name, parameters, arguments) \
  extern "C" int name parameters {                  \
    about_to(#name);                                \
    return P##name arguments;                       \
  }

SYNCBN_COUNTED(MPI_Init_thread, (int* argc, char*** argv, int required, int* provided),
               (argc, argv, required, provided))
SYNCBN_COUNTED(MPI_Finalize, (), ())
SYNCBN_COUNTED(MPI_Comm_dup, (MPI_Comm comm, MPI_Comm* copy), (comm, copy))
SYNCBN_COUNTED(MPI_Comm_idup, (MPI_Comm comm, MPI_Comm* copy, MPI_Request* request),
               (comm, copy, request))
SYNCBN_COUNTED(MPI_Comm_split, (MPI_Comm comm, int color, int key, MPI_Comm* part),
               (comm, color, key, part))
SYNCBN_COUNTED(MPI_Comm_split_type,
               (MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm* part),
               (comm, type, key, info, part))
SYNCBN_COUNTED(MPI_Comm_free, (MPI_Comm * comm), (comm))
SYNCBN_COUNTED(MPI_Barrier, (MPI_Comm comm), (comm))
SYNCBN_COUNTED(MPI_Bcast, (void* data, int count, MPI_Datatype type, int root, MPI_Comm comm),
               (data, count, type, root, comm))
SYNCBN_COUNTED(MPI_Allreduce,
               (const void* from, void* to, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm),
               (from, to, count, type, op, comm))
SYNCBN_COUNTED(MPI_Allgather,
               (const void* from, int count, MPI_Datatype type, void* to, int to_count,
                MPI_Datatype to_type, MPI_Comm comm),
               (from, count, type, to, to_count, to_type, comm))
SYNCBN_COUNTED(MPI_Allgatherv,
               (const void* from, int count, MPI_Datatype type, void* to, const int* counts,
                const int* places, MPI_Datatype to_type, MPI_Comm comm),
               (from, count, type, to, counts, places, to_type, comm))
SYNCBN_COUNTED(MPI_Ibarrier, (MPI_Comm comm, MPI_Request* request), (comm, request))
SYNCBN_COUNTED(MPI_Ibcast,
               (void* data, int count, MPI_Datatype type, int root, MPI_Comm comm,
                MPI_Request* request),
               (data, count, type, root, comm, request))
SYNCBN_COUNTED(MPI_Iallreduce,
               (const void* from, void* to, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                MPI_Request* request),
               (from, to, count, type, op, comm, request))
SYNCBN_COUNTED(MPI_Iallgather,
               (const void* from, int count, MPI_Datatype type, void* to, int to_count,
                MPI_Datatype to_type, MPI_Comm comm, MPI_Request* request),
               (from, count, type, to, to_count, to_type, comm, request))
SYNCBN_COUNTED(MPI_Isend,
               (const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
                MPI_Request* request),
               (data, count, type, to, tag, comm, request))
SYNCBN_COUNTED(MPI_Irecv,
               (void* data, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
                MPI_Request* request),
               (data, count, type, from, tag, comm, request))
