// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/backend.hpp"
#include "syncbn/batch_norm.hpp"
#include "syncbn/communicator.hpp"
#include "syncbn/device_communicator.hpp"
#include "syncbn/dtype.hpp"
#include "syncbn/error.hpp"
#include "syncbn/phases.hpp"
#include "syncbn/population.hpp"
#include "syncbn/state.hpp"
#include "syncbn/tensor_view.hpp"
#include "syncbn/version.hpp"
