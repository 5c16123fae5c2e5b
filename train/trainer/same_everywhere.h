// Ranks that are not of one run would train something that nobody asked for.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "core/comm/communicator.h"

namespace unfurl::train {

/// What a rank's numbers depend on: {"version of the program", "0.1.0"}, {"recipe", its text}, ...
using Origins = std::vector<std::pair<const char*, std::string>>;

/// Throws AgreedUserError on every rank where one has another origin than rank 0; it names the first, and the first
/// line in which two recipes differ.
void require_same_everywhere(Communicator& ranks, const Origins& own);

}  // namespace unfurl::train
