// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <nccl.h>

#include "syncbn/communicator.hpp"

namespace syncbn::comm::nccl {

/// The functions of NCCL that this library calls, without their prefix "nccl". NCCL is opened when
/// it is first asked for, so that programs run on machines without it.
struct Library {
  decltype(&ncclGetVersion) GetVersion;
  decltype(&ncclGetErrorString) GetErrorString;
  decltype(&ncclGetLastError) GetLastError;
  decltype(&ncclGetUniqueId) GetUniqueId;
  decltype(&ncclCommInitRankConfig) CommInitRankConfig;
  decltype(&ncclCommSplit) CommSplit;
  decltype(&ncclCommUserRank) CommUserRank;
  decltype(&ncclCommGetAsyncError) CommGetAsyncError;
  decltype(&ncclCommFinalize) CommFinalize;
  decltype(&ncclCommDestroy) CommDestroy;
  decltype(&ncclCommAbort) CommAbort;
  decltype(&ncclAllReduce) AllReduce;
};

/// Returns the functions of the NCCL that the process already has, such as PyTorch's, or else of
/// the libnccl.so.2 that the dynamic loader finds. It stays the same one from the first call that
/// succeeds. Throws NotConfigured if there is none, or if it is older than 2.19 or lacks a
/// function. May be called from any thread. For an emulated device they are emulated functions
/// (emulated/library.cpp).
const Library& library();

/// Returns the version of the NCCL that is used as NCCL gives it: 22809.
int version_code();

/// Returns a version as NCCL gives it, 22809, as text: "2.28.9".
std::string version_text(int code);

/// Throws NotConfigured: there are no sums over NCCL, why, and what to do.
[[noreturn]] void refuse(const std::string& why);

/// Returns what `library` throws, "" if it succeeds.
std::string why_no_library();

/// Collective. Each rank gives the reason why it cannot use NCCL, "" for none. If one has a reason,
/// throws NotConfigured on every rank: that reason where there is one, else which ranks have one.
void require_everywhere(const Communicator& bootstrap, const std::string& why_not_here);

}  // namespace syncbn::comm::nccl
