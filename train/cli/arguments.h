// The arguments of the command line. CLI11, whose header is slow to compile, is used in this folder alone: cli11.h.
#pragma once
#include <functional>

namespace unfurl::train {

/// What a parsed command does; returns the exit code.
using Action = std::function<int()>;

/// What the arguments ask for; help and version are printed at once. Throws UserError, one line, for a mistake in them.
Action parse_arguments(int argc, const char* const* argv);

}  // namespace unfurl::train
