// SPDX-License-Identifier: Apache-2.0
#pragma once

// study.json, from which python -m syncbn.report draws the page. Its form:
//
//   format, version, command, started (UTC), sittings
//   seconds        time of all sittings [s]
//   budget         "quick" or "full"
//   seeds          [1, 2, 3]: each variant of each experiment was trained with all of them
//   most_steps     --steps, or null
//   machine        as in scale.json
//   data           {directory, training_images, test_images, height, width, classes, checksums}
//   method         how bands and verdicts come about, in sentences
//   experiments    [{name, title, source, verdict, claims}], in the order of issue and page
//     verdict      "held", "did not hold" or "not decided", by the main claim, the first, and its
//                  controls: held if all of these held, did not hold if one did not
//     claims       [{claim, verdict, control, quantity, unit, test, margin, resolution, values,
//                  mean, low, high, amount}]. `values` has one number a seed, in the order of
//                  `seeds`. low and high bound the band: 95 % confidence around the mean, by
//                  Student's t, and `resolution` more on both sides; null where there is none. With
//                  test "above" a claim holds if low > margin and does not if high < margin; with
//                  "below" the other way round; with "within" it holds if the band is in (-margin,
//                  margin). `amount` says it in words: "+16.6 points (+15.9 to +17.3, 3 seeds)".
//   runs           [{name, experiments, variant, seed, ranks, command, seconds, results}]
//     experiments  names of those that use the run (two share theirs)
//     variant      what distinguishes it inside the experiment, in order; see below
//     ranks        threads that acted as ranks; 1 where the experiment is not about them
//     command      what trains the same by hand
//     seconds      how long it took
//     results      {diverged_at, series, final}
//       diverged_at  the first step whose loss is not finite, or null. If the last step leaves
//                    parameters that are not finite, that is the step after it.
//       series       arrays of equal length, one value at each evaluation; they end where training
//                    diverged. All runs have
//                      step            steps done
//                      loss            mean over the steps since the last evaluation
//                      batch_accuracy  of these steps' batches, as training sees them
//                      test_accuracy   with running statistics, over all test images [0, 1]
//       final        the last values of the series, and train_accuracy (as test_accuracy, of the
//                    first 5,000 training images). After a divergence accuracies in evaluation
//                    are those of guessing, and there is nothing else.
//
// Variants, and what else their series have:
//
//   faster-training    norm: none, affine or sync. With
//                        hidden_p15, hidden_p50, hidden_p85  percentiles of the input to the first
//                                      unit of the last hidden layer, over 1,000 test images
//                        hidden_moved  mean distance of the percentiles from the last evaluation's,
//                                      over all units of that layer
//                        hidden_width  mean of p85 - p15 over all units
//   activations        the same runs
//   learning-rates     norm, learning_rate
//   parameter-scale    norm, init_scale
//   saturating         norm, activation: sigmoid or tanh, hidden_layers, learning_rate: a network
//                      is judged by the better one
//   regularization     norm, dropout
//   synchronize        norm: none, affine, local or sync; ranks; samples (of a rank); one run with
//                      ranks 1 has shards: by-label, too, which is another order of each step's
//                      samples. With, but for the other run on one rank,
//                        distance      of all parameters from those of one process after the same
//                                      steps, over the distance that these have come from the
//                                      start; null once that process has diverged
//   group-size         norm, samples (that share statistics). With
//                        population_accuracy  test_accuracy with population statistics (PreciseBN
//                                      over all ranks) in place of running averages; in `final`
//                                      population_train_accuracy, which is train_accuracy so
//   leakage            norm, shards: mixed or by-label. With the same
//
// The experiment parameter-scale has one more field, `identity`, for the first seed: [{scale,
// output, output_tolerance, input_gradient, input_gradient_tolerance, weight_gradient,
// weight_gradient_tolerance, output_with_eps}]. Those are the largest errors of BN((aW)u) = BN(Wu)
// and of the two gradients for a = scale, in double with eps = 0, relative to the largest element,
// and what rounding explains; output_with_eps is that of the output with eps = 1e-5, which breaks
// the identity where variances are small.
//
// study.csv has a line for each number of `results`: experiment, run, norm, the other factors of
// all variants, seed, quantity, step, value. Neither file depends on how many ranks ran the study,
// but for `command`, `machine`, and the times.

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "app/json.hpp"
#include "app/study/experiments.hpp"

namespace syncbn::app::study {

/// A StudyRun is a run with what it found.
struct StudyRun {
  const Run* run;
  double seconds;
  Json results;
};

/// Returns `experiments` and `runs` of study.json.
Json to_json(std::span<const Experiment> experiments, std::span<const StudyRun> runs,
             const std::vector<std::uint64_t>& seeds);

/// Returns study.csv.
std::string to_csv(std::span<const StudyRun> runs);

/// Returns a line for each experiment with its verdict, and how the page is drawn.
std::string summary(const Json& report, const std::filesystem::path& output);

/// Returns the command that trains the same.
std::string command_of(const Run& run);

}  // namespace syncbn::app::study
