// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/export.h"

/// SYNCBN_INTERNAL_API marks the internals of libsyncbn that libsyncbn_mpi uses, which a shared
/// libsyncbn therefore exports, under a version of their own (cmake/exports.map.in). They are for
/// no other program.
#define SYNCBN_INTERNAL_API SYNCBN_API
