// Messages between the ranks of a run: all that collectives need. A plugin library, loaded when there is more than one
// rank, brings it over MPI.
//
// One thread makes a transport, uses it and destroys it.
#pragma once
#include <cstddef>
#include <memory>
#include <string>

namespace unfurl {

/// A message under way, to or from another rank. Destroyed before it is done, it leaves the memory to the transport.
class Message {
 public:
  virtual ~Message() = default;
  /// Moves on what is under way; true when the memory may be used again. Throws Error where the link is lost.
  virtual bool done() = 0;
};

class Transport {
 public:
  /// Ends the connection with the other ranks, which do the same; after abandon() without them.
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// "Open MPI 4.1.4"
  virtual std::string description() const = 0;

  /// The longest message, bytes.
  static constexpr std::size_t kLongest = std::size_t{1} << 26;
  /// Collectives have a channel, and what ranks say to one another when they have failed.
  enum Channel : int { collectives, last_words };
  /// Starts a message; those between two ranks on a channel arrive in the order in which they were started on each
  /// side.
  virtual std::unique_ptr<Message> send(int to, const void* bytes, std::size_t count, Channel channel) = 0;
  virtual std::unique_ptr<Message> receive(int from, void* bytes, std::size_t count, Channel channel) = 0;

  /// The other ranks are not to be waited for any more.
  virtual void abandon() = 0;
};

/// What the plugin exports under the name "unfurl_open_transport". Throws Error.
using OpenTransport = Transport*();

}  // namespace unfurl
