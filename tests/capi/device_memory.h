/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_TESTS_CAPI_DEVICE_MEMORY_H
#define SYNCBN_TESTS_CAPI_DEVICE_MEMORY_H

#include <stddef.h>

/* bn/device.hpp for C. */

#ifdef __cplusplus
extern "C" {
#endif

/* Why there is no device; "" if there is. */
const char* why_no_device(void);
/* Memory of it that holds these bytes. */
void* on_device(const void* bytes, size_t count);
/* What it holds when all that was put on the default stream is done. */
void fetch(const void* from, void* bytes, size_t count);

#ifdef __cplusplus
}
#endif

#endif
