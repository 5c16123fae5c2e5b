// `unfurl train --ranks N`: one command for what mpirun does.
#pragma once
#include <cstdint>

namespace unfurl::train {

/// Runs this command line, without --ranks, by mpirun with so many ranks, and returns its exit code. The first signal
/// that asks this process to end reaches the ranks as SIGUSR1, so that they have time for a checkpoint: mpirun itself
/// would kill them a second later. A second one of the same kind ends all. Throws UserError where there is no mpirun.
int start_ranks(std::int64_t ranks);

}  // namespace unfurl::train
