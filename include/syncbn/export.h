/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_EXPORT_H
#define SYNCBN_EXPORT_H

/*
 * SYNCBN_API marks what the shared libraries libsyncbn and libsyncbn_mpi export; all else in them
 * is hidden. The mark changes nothing for a program that links the static libraries. A shared
 * library that links those exports the marked names itself, unless it is linked with
 * -Wl,--exclude-libs,libsyncbn.a:libsyncbn_mpi.a.
 *
 * The C headers mark all functions between SYNCBN_C_API_BEGIN and SYNCBN_C_API_END, which also give
 * them C linkage.
 */
#if defined(__GNUC__)
#define SYNCBN_API __attribute__((visibility("default")))
#define SYNCBN_API_BEGIN _Pragma("GCC visibility push(default)")
#define SYNCBN_API_END _Pragma("GCC visibility pop")
#else
#define SYNCBN_API
#define SYNCBN_API_BEGIN
#define SYNCBN_API_END
#endif

#ifdef __cplusplus
#define SYNCBN_C_API_BEGIN SYNCBN_API_BEGIN extern "C" {
#define SYNCBN_C_API_END \
  }                      \
  SYNCBN_API_END
#else
#define SYNCBN_C_API_BEGIN SYNCBN_API_BEGIN
#define SYNCBN_C_API_END SYNCBN_API_END
#endif

#endif
