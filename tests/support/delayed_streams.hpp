// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace syncbn::test {

/// Has the streams of emulated devices wait at random (cuda::delay_streams), and a program whose
/// tests fail print the seed. Does nothing in other builds, or if SYNCBN_STREAM_DELAYS is "none" in
/// the environment.
void delay_streams();

}  // namespace syncbn::test
