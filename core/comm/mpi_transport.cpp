// The plugin: messages over MPI.
#include <fmt/format.h>

// Without the C++ bindings of old, whose library is not needed.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include "core/comm/transport.h"
#include "core/error.h"

namespace unfurl {
namespace {

void check(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail("MPI: {}: {}", what, std::string_view(text, static_cast<std::size_t>(length)));
}

class MpiMessage : public Message {
 public:
  bool done() override {
    int flag = 0;
    check(MPI_Test(&request, &flag, MPI_STATUS_IGNORE), "a message was lost");
    return flag != 0;
  }
  MPI_Request request = MPI_REQUEST_NULL;
};

class MpiTransport : public Transport {
 public:
  MpiTransport() {
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "cannot start");
    if (provided < MPI_THREAD_FUNNELED) fail("MPI: this library does not allow threads");
    check(MPI_Comm_dup(MPI_COMM_WORLD, &world_), "cannot start");
    MPI_Comm_set_errhandler(world_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(world_, &rank_);
    MPI_Comm_size(world_, &size_);
  }
  ~MpiTransport() override {
    if (!abandoned_) MPI_Finalize();
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string description() const override {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
    int length = 0;
    MPI_Get_library_version(text, &length);
    const std::string_view whole(text, static_cast<std::size_t>(length));
    return std::string(whole.substr(0, whole.find_first_of(",\n")));
  }
  std::unique_ptr<Message> send(int to, const void* bytes, std::size_t count, Channel channel) override {
    auto message = std::make_unique<MpiMessage>();
    check(MPI_Isend(bytes, size_of(count), MPI_BYTE, to, channel, world_, &message->request), "cannot send");
    return message;
  }
  std::unique_ptr<Message> receive(int from, void* bytes, std::size_t count, Channel channel) override {
    auto message = std::make_unique<MpiMessage>();
    check(MPI_Irecv(bytes, size_of(count), MPI_BYTE, from, channel, world_, &message->request), "cannot receive");
    return message;
  }
  void abandon() override { abandoned_ = true; }

 private:
  static int size_of(std::size_t count) {
    require(count <= kLongest, "MPI: a message of {} bytes is too long", count);
    return static_cast<int>(count);
  }
  MPI_Comm world_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
  bool abandoned_ = false;
};

}  // namespace
}  // namespace unfurl

extern "C" unfurl::Transport* unfurl_open_transport() { return new unfurl::MpiTransport; }
