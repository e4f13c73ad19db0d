/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_TESTS_CAPI_EXPECT_H
#define SYNCBN_TESTS_CAPI_EXPECT_H

#include <stdio.h>
#include <stdlib.h>

#include "syncbn/c/syncbn.h"

/* Ends the test where a condition does not hold. */
#define EXPECT(condition)                                                                      \
  do {                                                                                         \
    if (!(condition)) {                                                                        \
      fprintf(stderr, "%s:%d: expected %s (last error: %s)\n", __FILE__, __LINE__, #condition, \
              syncbn_last_error());                                                            \
      exit(1);                                                                                 \
    }                                                                                          \
  } while (0)

/* Options of a communicator that waits so many seconds for a rank. */
#define WITHIN(seconds)                                                                    \
  (&(const syncbn_communicator_options){sizeof(syncbn_communicator_options), (seconds), 0, \
                                        SYNCBN_EXCHANGE_DEFAULT})

#define EXPECT_OK(call) EXPECT((call) == SYNCBN_OK)

#endif
