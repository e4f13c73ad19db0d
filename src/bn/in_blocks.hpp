// SPDX-License-Identifier: Apache-2.0
#pragma once

// A pass, block by block of channels: sums, exchange, and what needs the group's sums.
//
//   block 0: sums, exchange, use | sums of block 1, post them; use what has arrived | sums of block
//   2, post them; use what has arrived | ...
//
// Channels do not depend on each other. A block whose exchange is done is used at once, while what
// its sums have read is still in the nearest cache. A rank whose next result is not there yet does
// not wait: it goes on with the sums of further blocks, up to `Workspace::messages` of them, which
// a larger cache holds. So moments in which one rank is slow do not stop the others, and even out
// where ranks are slow in turn. Messages are posted in the order of the blocks on every rank,
// whenever it comes to use them; blocks whose sums have to be taken again are left for the end,
// where that is the same on all ranks, too.
//
// Block 0 does not wait for block 1: ranks that disagree find out when none has anything else under
// way, and can compare what they are doing. The sums do not depend on the blocks, beyond rounding
// where few channels lie abreast (kernels/cpu/partition.hpp). A group of one rank uses each block
// at once.

#include <cstdint>

#include "bn/pass.hpp"

namespace syncbn::bn {

/// Takes the pass block by block, with nobody to exchange with.
void in_blocks_here(Pass& pass, std::int64_t blocks);

/// Collective. Takes the pass block by block. Returns the mean of the ranks' wishes, the same on
/// every rank.
///
/// If anything throws, the group is unusable.
double in_blocks(Pass& pass, std::int64_t blocks, double wish);

}  // namespace syncbn::bn
