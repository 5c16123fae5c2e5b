#include "core/comm/agree.h"

#include <unistd.h>

#include <chrono>
#include <new>

#include "core/files.h"

namespace unfurl {
namespace {

/// "" where body() returns; else a letter for the kind of failure, and its text.
std::string failure_of(const std::function<void()>& body) {
  try {
    body();
    return "";
  } catch (const UserError& error) {
    return std::string("U") + error.what();
  } catch (const std::bad_alloc&) {
    return "Eout of memory";
  } catch (const std::exception& error) {
    return std::string("E") + error.what();
  }
}

void throw_first(Communicator& communicator, const char* what, const std::string& own) {
  const std::vector<std::string> all = communicator.gather_texts(what, own);
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].empty()) continue;
    const std::string text = (rank == 0 ? "" : fmt::format("rank {}: ", rank)) + all[rank].substr(1);
    if (all[rank][0] == 'U') throw AgreedUserError(text);
    throw AgreedError(text);
  }
}

}  // namespace

void agree(Communicator& communicator, const char* what, const std::function<void()>& body) {
  if (communicator.size() == 1) return body();
  throw_first(communicator, what, failure_of(body));
}

void agree_rank_0_first(Communicator& communicator, const char* what, const std::function<void()>& body) {
  if (communicator.size() == 1) return body();
  throw_first(communicator, what, communicator.rank() == 0 ? failure_of(body) : "");
  throw_first(communicator, what, communicator.rank() == 0 ? "" : failure_of(body));
}

std::string text_of_rank_0(Communicator& communicator, const char* what, const std::string& text) {
  return communicator.gather_texts(what, communicator.rank() == 0 ? text : "")[0];
}

void require_one_folder(Communicator& communicator, const std::filesystem::path& folder) {
  if (communicator.size() == 1) return;
  const bool first = communicator.rank() == 0;
  const std::filesystem::path file = folder / ".ranks";
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  const std::string mark = text_of_rank_0(communicator, "folder", fmt::format("{} {}\n", ::getpid(), now));
  const auto remove = [&] {
    std::error_code ignored;
    if (first) std::filesystem::remove(file, ignored);
  };
  try {
    agree_rank_0_first(communicator, "folder", [&] {
      if (first) return write_file(file, mark);
      std::error_code ignored;
      if (!std::filesystem::exists(file, ignored) || read_file(file) != mark) {
        user_error(
            "{} is not the folder that rank 0 has under this name; all ranks write there: set an output on a "
            "file system that their machines share",
            folder.string());
      }
    });
  } catch (...) {
    remove();
    throw;
  }
  remove();
}

}  // namespace unfurl
