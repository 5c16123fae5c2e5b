#include "core/files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "core/error.h"
#include "tests/support/temporary_folder.h"

namespace unfurl::tests {
namespace {

std::size_t files_in(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

/// The message of the E that body throws.
template <class E, class Body>
std::string thrown(const Body& body) {
  try {
    body();
  } catch (const E& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Files, WhatWasWrittenIsRead) {
  const TemporaryFolder folder;
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{1} << 20, (std::size_t{3} << 20) + 7}) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31 >> 3);
    write_file(folder / "file", bytes);
    EXPECT_EQ(read_file(folder / "file"), bytes);
    EXPECT_EQ(MappedFile(folder / "file").text(), bytes);
    EXPECT_EQ(files_in(folder.path()), 1u);
  }
}

TEST(Files, SmallAndLargePiecesKeepTheirOrder) {
  const TemporaryFolder folder;
  std::string expected;
  FileWriter writer(folder / "file");
  for (const std::size_t size : {10u, 3u << 20, 5u, (1u << 20) - 1, 1u, 1u << 20, 0u, 7u}) {
    const std::string piece(size, static_cast<char>('a' + expected.size() % 26));
    writer.write(piece);
    expected += piece;
    EXPECT_EQ(writer.size(), expected.size());
  }
  writer.commit();
  EXPECT_EQ(read_file(folder / "file"), expected);
  EXPECT_THROW(writer.write("more"), Error);
}

TEST(Files, AFileAppearsAtCommitAndNotBefore) {
  const TemporaryFolder folder;
  write_file(folder / "file", "old");
  {
    FileWriter writer(folder / "file");
    writer.write(std::string(5 << 20, 'x'));
    EXPECT_EQ(read_file(folder / "file"), "old");
  }
  EXPECT_EQ(read_file(folder / "file"), "old");
  EXPECT_EQ(files_in(folder.path()), 1u);
  write_file(folder / "file", "new");
  EXPECT_EQ(read_file(folder / "file"), "new");
}

TEST(Files, AFullDiskIsAnErrorAndLeavesNothing) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  const TemporaryFolder folder;
  write_file(folder / "file", "old");
  for (const std::size_t size : {std::size_t{3}, std::size_t{5} << 20}) {
    // The writer's own file, but on a device that is always full.
    std::filesystem::create_symlink("/dev/full", folder / "file.tmp");
    const std::string message = thrown<Error>([&] { write_file(folder / "file", std::string(size, 'x')); });
    EXPECT_TRUE(contains(message, (folder / "file").string()) && contains(message, "No space left")) << message;
    EXPECT_EQ(read_file(folder / "file"), "old");
    EXPECT_EQ(files_in(folder.path()), 1u);
  }
}

TEST(Files, AWriterThatFailedStaysFailed) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  const TemporaryFolder folder;
  std::filesystem::create_symlink("/dev/full", folder / "file.tmp");
  FileWriter writer(folder / "file");
  EXPECT_THROW(writer.write(std::string(5 << 20, 'x')), Error);
  EXPECT_THROW(writer.write("x"), Error);
  EXPECT_THROW(writer.commit(), Error);
  EXPECT_EQ(files_in(folder.path()), 0u);
}

TEST(Files, WhatCannotBeReadIsTheUsersMistake) {
  const TemporaryFolder folder;
  EXPECT_TRUE(contains(thrown<UserError>([&] { read_file(folder / "none"); }), "none: No such file"));
  EXPECT_TRUE(contains(thrown<UserError>([&] { read_file(folder.path()); }), "it is a folder"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(contains(thrown<UserError>([&] { read_file(folder / "pipe"); }), "not a regular file"));
}

TEST(Files, WhatCannotBeWrittenIsAnErrorThatNamesIt) {
  const TemporaryFolder folder;
  write_file(folder / "file", "a");
  std::filesystem::create_directory(folder / "folder");
  EXPECT_TRUE(contains(thrown<Error>([&] { write_file(folder / "none" / "a", "x"); }), "none/a: No such file"));
  EXPECT_TRUE(contains(thrown<Error>([&] { write_file(folder / "file" / "a", "x"); }), "file/a: Not a directory"));
  EXPECT_TRUE(contains(thrown<Error>([&] { write_file(folder / "folder", "x"); }), "folder: it is a folder"));
  EXPECT_TRUE(contains(thrown<Error>([&] { make_folder(folder / "file" / "a"); }), "file/a"));
  EXPECT_TRUE(contains(thrown<Error>([&] { make_folder(folder / "file"); }), "file"));
  EXPECT_EQ(files_in(folder.path()), 2u);
}

/// Root may write everywhere, so a test of permissions runs as nobody.
class AsNobody {
 public:
  AsNobody() : root_(::geteuid() == 0), done_(!root_ || ::setresuid(kNobody, kNobody, 0) == 0) {}
  ~AsNobody() {
    if (root_ && done_ && ::setresuid(0, 0, 0) != 0) std::abort();
  }
  bool done() const { return done_; }

 private:
  static constexpr uid_t kNobody = 65534;
  bool root_, done_;
};

TEST(Files, ALinkStaysAndWhatIsNoFileIsLeftAlone) {
  const TemporaryFolder folder;
  write_file(folder / "target", "old");
  std::filesystem::create_directory(folder / "elsewhere");
  std::filesystem::create_symlink("../target", folder / "elsewhere/link");
  write_file(folder / "elsewhere/link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "elsewhere/link"));
  EXPECT_EQ(read_file(folder / "target"), "new");
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  write_file(folder / "dangling", "new");
  EXPECT_EQ(read_file(folder / "dangling"), "new");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(contains(thrown<Error>([&] { write_file(folder / "pipe", "x"); }), "pipe: it is not a regular file"));
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "pipe"));
  std::filesystem::create_symlink("pipe", folder / "to_pipe");
  EXPECT_TRUE(contains(thrown<Error>([&] { write_file(folder / "to_pipe", "x"); }), "it is not a regular file"));
}

TEST(Files, AnUnwritableFolderIsAnError) {
  const TemporaryFolder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  std::filesystem::create_directory(folder / "locked");
  std::filesystem::permissions(folder / "locked", std::filesystem::perms(0555));
  {
    const AsNobody nobody;
    if (!nobody.done()) GTEST_SKIP() << "this root cannot become another user, and may write everywhere";
    EXPECT_TRUE(contains(thrown<Error>([&] { make_folder(folder / "locked"); }), "Permission denied"));
    EXPECT_TRUE(contains(thrown<Error>([&] { make_folder(folder / "locked" / "a"); }), "Permission denied"));
    EXPECT_TRUE(contains(thrown<Error>([&] { write_file(folder / "locked" / "a", "x"); }), "Permission denied"));
  }
  std::filesystem::permissions(folder / "locked", std::filesystem::perms(0755));
  EXPECT_EQ(files_in(folder / "locked"), 0u);
}

TEST(Files, FoldersAreMadeWithTheirParents) {
  const TemporaryFolder folder;
  make_folder(folder / "a" / "b" / "c");
  make_folder(folder / "a" / "b" / "c");
  EXPECT_TRUE(std::filesystem::is_directory(folder / "a" / "b" / "c"));
}

TEST(Files, AnOutputIsNotItsOwnInput) {
  const TemporaryFolder folder;
  write_file(folder / "a", "x");
  std::filesystem::create_symlink("a", folder / "b");
  require_other_file(folder / "c", folder / "a");
  require_other_file(folder / "a", folder / "c");
  EXPECT_TRUE(contains(thrown<UserError>([&] { require_other_file(folder / "a", folder / "a"); }), "overwritten"));
  EXPECT_TRUE(contains(thrown<UserError>([&] { require_other_file(folder / "b", folder / "a"); }), "overwritten"));
}

TEST(Files, UnfinishedFilesAreRemovedWhereTheProcessEnds) {
  const TemporaryFolder folder;
  write_file(folder / "whole", "x");
  {
    FileWriter first(folder / "first"), second(folder / "second");
    second.write(std::string(3 << 20, 'x'));
    EXPECT_EQ(files_in(folder.path()), 3u);
    remove_unfinished_files();
    EXPECT_EQ(files_in(folder.path()), 1u);
    EXPECT_THROW(first.commit(), Error);
  }
  write_file(folder / "first", "x");
  FileWriter third(folder / "first");
  third.commit();
  remove_unfinished_files();  // there are none any more
  EXPECT_EQ(files_in(folder.path()), 2u);
  // More writers at once than can be listed still write.
  std::vector<std::unique_ptr<FileWriter>> many;
  for (int i = 0; i < 12; ++i) many.push_back(std::make_unique<FileWriter>(folder / std::to_string(i)));
  for (const auto& writer : many) writer->commit();
  many.clear();
  EXPECT_EQ(files_in(folder.path()), 14u);
}

TEST(Files, ALockLeavesNothingInAFolderThatNothingCameInto) {
  const TemporaryFolder folder;
  { const FolderLock lock(folder / "a" / "b"); }
  EXPECT_EQ(files_in(folder.path()), 0u);
  {
    const FolderLock lock(folder / "a" / "b");
    write_file(folder / "a" / "b" / "result", "x");
  }
  EXPECT_EQ(files_in(folder / "a" / "b"), 2u);
  std::filesystem::create_directory(folder / "there");
  { const FolderLock lock(folder / "there"); }
  EXPECT_EQ(files_in(folder / "there"), 0u);
  write_file(folder / "file", "");
  EXPECT_THROW(FolderLock(folder / "file" / "a"), Error);
  EXPECT_EQ(files_in(folder.path()), 3u);
}

TEST(Files, AFolderIsHeldOnce) {
  const TemporaryFolder folder;
  {
    const FolderLock first(folder / "a");
    EXPECT_TRUE(contains(thrown<UserError>([&] { const FolderLock second(folder / "a"); }), "another run"));
  }
  const FolderLock again(folder / "a");
}

TEST(Files, HashesAreThoseOfXxh3) {
  EXPECT_EQ(hash_bytes(""), 0x2D06800538D394C2u);
  EXPECT_NE(hash_bytes("a"), hash_bytes("b"));
  EXPECT_NE(hash_bytes("a", 1), hash_bytes("a", 2));
}

}  // namespace
}  // namespace unfurl::tests
