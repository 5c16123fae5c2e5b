#include "train/model/open_session.h"

#include "train/model/device_session.h"
#include "train/model/session.h"

namespace unfurl::train {

std::unique_ptr<LanguageModel> open_session(const Decoder& decoder, DecodePrecision precision) {
  if (runs_cuda(decoder.embedding().device())) return std::make_unique<DeviceSession>(decoder);
  return std::make_unique<DecoderSession>(decoder, precision);
}

}  // namespace unfurl::train
