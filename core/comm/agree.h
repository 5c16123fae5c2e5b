// Ranks that fail together: a mistake that one rank meets ends all of them with the same one line.
#pragma once
#include <filesystem>
#include <functional>

#include "core/comm/communicator.h"
#include "core/error.h"

namespace unfurl {

/// An error that every rank throws, so that each ends in good order and one of them says why.
class Agreed {
 public:
  virtual ~Agreed() = default;
};
class AgreedError : public Error, public Agreed {
 public:
  using Error::Error;
};
class AgreedUserError : public UserError, public Agreed {
 public:
  using UserError::UserError;
};

/// Runs body() on every rank at once. Where it throws on any, what the lowest of these threw is thrown on all, as
/// AgreedUserError or AgreedError, with "rank R: " before it unless that is rank 0. body() must not use the
/// communicator.
void agree(Communicator& communicator, const char* what, const std::function<void()>& body);

/// The same, but the other ranks begin when rank 0 is done: it may leave something for them in a folder that all see.
void agree_rank_0_first(Communicator& communicator, const char* what, const std::function<void()>& body);

/// The text of rank 0, on every rank.
std::string text_of_rank_0(Communicator& communicator, const char* what, const std::string& text);

/// Throws where a rank does not find there what rank 0 leaves: the folders of two machines may have one name.
void require_one_folder(Communicator& communicator, const std::filesystem::path& folder);

}  // namespace unfurl
