// SPDX-License-Identifier: Apache-2.0
#pragma once

// A pass goes block by block of channels through sums, exchange, and use of the group's sums.
//
//   block 0: sums, exchange, use | sums of block 1, post them; use what has arrived | sums of block
//   2, post them; use what has arrived | ...
//
// Channels do not depend on each other, so a block whose exchange is done is used at once, while
// what its sums have read is still in the nearest cache. A rank whose next result is not there yet
// does not wait: it goes on with the sums of further blocks, as many as `Workspace::messages` has
// places, and a larger cache still holds those. So a rank that is slow for a moment does not stop
// the others, and delays even out where ranks are slow in turn. Every rank posts messages in the
// order of the blocks, whenever it comes to use them. Blocks whose sums have to be taken again are
// left for the end, so that their messages, too, come in the same order on all ranks.
//
// Block 0 is used before block 1 is summed: ranks that disagree find out while no other message of
// theirs is under way, and can compare what they are doing. The sums do not depend on the blocks,
// beyond rounding where a vector holds several rows of few channels (kernels/cpu/partition.hpp). A
// group of one rank uses each block at once.

#include <cstdint>

#include "bn/host/pass.hpp"

namespace syncbn::bn {

/// Local. Takes the pass block by block, with this rank's sums as the group's.
void in_blocks_here(Pass& pass, std::int64_t blocks);

/// Collective. Takes the pass block by block. Returns the mean of the ranks' votes, the same on
/// every rank.
///
/// If anything throws, the group is unusable.
double in_blocks(Pass& pass, std::int64_t blocks, double vote);

}  // namespace syncbn::bn
