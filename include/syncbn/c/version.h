/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_C_VERSION_H
#define SYNCBN_C_VERSION_H

/* These are the version of the headers that a program is compiled with. syncbn_version(), in C++
 * syncbn::version(), returns that of the library that it runs with. */
#define SYNCBN_VERSION_MAJOR 0
#define SYNCBN_VERSION_MINOR 1
#define SYNCBN_VERSION_PATCH 0

/* The version as one number, to compare with: 10203 for 1.2.3. */
#define SYNCBN_VERSION \
  (SYNCBN_VERSION_MAJOR * 10000 + SYNCBN_VERSION_MINOR * 100 + SYNCBN_VERSION_PATCH)

#endif
