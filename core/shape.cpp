#include "core/shape.h"

#include <fmt/format.h>

fmt::format_context::iterator fmt::formatter<unfurl::Shape>::format(const unfurl::Shape& shape,
                                                                    fmt::format_context& context) const {
  return fmt::formatter<std::string>::format(shape.text(), context);
}
