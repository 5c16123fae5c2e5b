// A program that a stage of a pipeline runs.
#pragma once
#include <string>

namespace unfurl::train {

/// Runs it (train/split_command.h) with this program's streams and waits. `unfurl` and `atelier` are this program and
/// the one beside it; others are found as a shell finds them. Throws UserError where there is no such program, Error
/// where it does not end with 0.
void run_command(const std::string& command);

}  // namespace unfurl::train
