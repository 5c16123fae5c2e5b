#include "train/version.h"

namespace unfurl::train {

const char* program_version() { return UNFURL_VERSION; }

}  // namespace unfurl::train
