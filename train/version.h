// Which version of the program this is.
#pragma once

namespace unfurl::train {

/// "0.1.0"
const char* program_version();

}  // namespace unfurl::train
