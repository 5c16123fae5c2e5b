// The command line.
#pragma once

namespace unfurl::train {

/// Runs the command that the arguments name. Returns the exit code: 0, the command's own, 2 for a user's mistake or 1
/// for a failure, each told by one line on standard error.
int run_cli(int argc, const char* const* argv);

}  // namespace unfurl::train
