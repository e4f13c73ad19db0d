// SPDX-License-Identifier: Apache-2.0
//
// An NCCL that does nothing. FAKE_VERSION is what it says it is; with FAKE_LACKS_SPLIT it has no
// ncclCommSplit.

extern "C" {

int ncclGetVersion(int* version) {
  *version = FAKE_VERSION;
  return 0;
}
const char* ncclGetErrorString(int) {
  return "no error";
}
const char* ncclGetLastError(void*) {
  return "";
}
void ncclGetUniqueId() {}
void ncclCommInitRankConfig() {}
#ifndef FAKE_LACKS_SPLIT
void ncclCommSplit() {}
#endif
void ncclCommUserRank() {}
void ncclCommGetAsyncError() {}
void ncclCommFinalize() {}
void ncclCommDestroy() {}
void ncclCommAbort() {}
void ncclAllReduce() {}

}  // extern "C"
