// Errors by their whole text.
#pragma once
#include <gtest/gtest.h>

#include <string>

#include "core/error.h"

namespace unfurl::tests {

/// The message of the Error that body() throws; empty where it throws none.
template <class Body>
std::string error_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace unfurl::tests
