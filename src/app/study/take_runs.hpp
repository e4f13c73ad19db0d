// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "syncbn/communicator.hpp"

#include "app/progress.hpp"
#include "app/run_directory.hpp"
#include "app/study/plan.hpp"
#include "app/study/run.hpp"

namespace syncbn::app::study {

/// Says what files a study leaves: one for each run.
PartFiles run_files();

/// Returns the runs that the directory does not have yet, longest first, so that those which are
/// done at the same time take about the same time.
std::vector<const Run*> missing_runs(const std::vector<Run>& runs, const RunDirectory& directory);

/// Collective over the world. Returns how long the runs may take on these ranks, by the time of
/// some training steps. [s]
double expected_seconds(std::span<const Run* const> runs, const Plan& plan,
                        const Communicator& world,
                        const std::shared_ptr<const trainer::Split>& data);

/// Collective over the world. Deals the runs out to its ranks, one to each at a time, and keeps
/// what they find. If a run fails, throws FileError on every rank when the others that were trained
/// at the same time are kept.
void take_runs(std::span<const Run* const> runs, const Communicator& world,
               const std::shared_ptr<const trainer::Split>& data, ProgressStyle style,
               RunDirectory& directory);

}  // namespace syncbn::app::study
