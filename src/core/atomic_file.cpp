// SPDX-License-Identifier: Apache-2.0
//
// A writer locks its temporary file (flock) until it has renamed it. So a temporary file that is
// not locked, and old, was left by a writer that is dead, and may be removed by whoever finds it.

#include "core/atomic_file.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <ctime>
#include <fcntl.h>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <unistd.h>

#include <sys/file.h>
#include <sys/stat.h>

#include "syncbn/error.hpp"

#include "core/file_descriptor.hpp"
#include "core/utf8.hpp"

namespace syncbn {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view temporary_mark = ".syncbn-";
constexpr std::size_t temporary_digits = 8;
constexpr std::string_view temporary_end = ".tmp";

[[noreturn]] void refuse(const fs::path& file, const std::string& why,
                         std::string_view suggestion = "") {
  throw FileError("cannot write '" + file.string() + "' (" + why + ")." + std::string(suggestion));
}

/// Returns what to do about an error, with a space before it.
std::string_view suggestion_for(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return " Make room there, or name a file elsewhere.";
    case ENOENT:
    case ENAMETOOLONG:
    case EISDIR:
    case ELOOP:
      return " Name another file.";
    case EACCES:
    case EPERM:
    case EROFS:
      return " Name a file in a directory that you may write to.";
    default:
      return "";
  }
}

/// Throws FileError with the text of errno.
[[noreturn]] void throw_errno(const char* doing, const fs::path& file) {
  const int error = errno;
  throw FileError(std::string("cannot ") + doing + " '" + file.string() + "' (" +
                  std::generic_category().message(error) + ")." +
                  std::string(suggestion_for(error)));
}

/// Refuses a link that anybody may have planted: Linux's own rule (proc(5), protected_symlinks).
void require_trusted_link(const fs::path& link, const struct stat& status,
                          const fs::path& directory) {
  struct stat around;
  if (::stat(directory.c_str(), &around) == 0 && (around.st_mode & S_ISVTX) != 0 &&
      (around.st_mode & S_IWOTH) != 0 && status.st_uid != ::geteuid() &&
      status.st_uid != around.st_uid) {
    refuse(link, "it is another user's link in a directory that everybody writes to");
  }
}

fs::path directory_of(const fs::path& file) {
  return file.has_parent_path() ? file.parent_path() : fs::path(".");
}

/// Follows symbolic links to their end, whether a file exists there or not.
fs::path without_links(fs::path file) {
  constexpr int most_links = 40;  // as many as Linux follows
  for (int links = 0; links <= most_links; ++links) {
    struct stat status;
    if (::lstat(file.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) {
      return file;
    }
    require_trusted_link(file, status, directory_of(file));
    std::error_code failed;
    const fs::path target = fs::read_symlink(file, failed);
    if (failed) {
      refuse(file, failed.message());
    }
    file = file.parent_path() / target;
  }
  refuse(file, "its symbolic links lead on without end");
}

/// Names a file in a directory, and holds the directory open, so that all is done in the same one.
struct Place {
  fs::path file;
  FileDescriptor directory;
  std::string name;
};

Place place_of(const fs::path& file) {
  Place place{file, {}, file.filename().string()};
  if (place.name.empty()) {
    refuse(file, "it names no file");
  }
  const fs::path directory = directory_of(file);
  place.directory = FileDescriptor(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!place.directory) {
    const int error = errno;
    refuse(file,
           "directory '" + directory.string() + "': " + std::generic_category().message(error),
           error == ENOENT ? " Make the directory first?" : suggestion_for(error));
  }
  return place;
}

std::optional<struct statx> status_of(const Place& place) {
  struct statx status;
  if (::statx(place.directory.get(), place.name.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS,
              &status) == 0) {
    return status;
  }
  if (errno != ENOENT) {
    throw_errno("write", place.file);
  }
  return std::nullopt;
}

/// Tells whether the file is another user's in a sticky directory, where only the directory's owner
/// and root may replace it.
bool protected_by_directory(const Place& place, const struct statx& old) {
  struct stat around;
  const uid_t self = ::geteuid();
  return ::fstat(place.directory.get(), &around) == 0 && (around.st_mode & S_ISVTX) != 0 &&
         self != 0 && self != around.st_uid && self != old.stx_uid;
}

void require_replaceable(const Place& place, const struct statx& old) {
  if (S_ISDIR(old.stx_mode)) {
    refuse(place.file, "it is a directory", " Name a file in it.");
  }
  if (!S_ISREG(old.stx_mode)) {
    refuse(place.file, "it is not a regular file", " Name another.");
  }
  if ((old.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0) {
    refuse(place.file, "it is a mount point, which nothing can take the place of",
           " Mount its directory instead.");
  }
  if ((old.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0) {
    refuse(place.file, "it is marked as not to be changed", " See lsattr.");
  }
  if (protected_by_directory(place, old)) {
    refuse(place.file, "it is another user's, in a directory where each may replace its own",
           " Name another.");
  }
}

/// Returns a temporary file's name: the file's own name, cut at the end of a UTF-8 character if the
/// whole would be too long, with a random number.
std::string temporary_name(const Place& place) {
  const long limit = ::fpathconf(place.directory.get(), _PC_NAME_MAX);
  const std::size_t longest = limit > 0 ? static_cast<std::size_t>(limit) : NAME_MAX;
  const std::size_t added = temporary_mark.size() + temporary_digits + temporary_end.size();
  std::string name = place.name;
  name.resize(cut_to(name, longest - std::min(longest, added)).size());
  std::array<char, temporary_digits + 1> number;
  std::snprintf(number.data(), number.size(), "%08x", std::random_device()());
  return name.append(temporary_mark).append(number.data()).append(temporary_end);
}

bool is_temporary(std::string_view name) {
  const std::size_t added = temporary_mark.size() + temporary_digits + temporary_end.size();
  if (name.size() < added) {
    return false;
  }
  const std::string_view end = name.substr(name.size() - added);
  return end.starts_with(temporary_mark) && end.ends_with(temporary_end) &&
         std::ranges::all_of(end.substr(temporary_mark.size(), temporary_digits), [](char digit) {
           return (digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f');
         });
}

/// Tells whether nobody has written to a file for so long that its writer is dead, on whatever
/// host. Its lock may be known to its own host alone (NFS with local_lock, Lustre with localflock).
bool is_old(const struct stat& status) {
  constexpr std::time_t age = 600;  // s
  return std::time(nullptr) - status.st_mtime > age;
}

/// Removes the temporary files in the directory whose writers are dead. Does nothing where the
/// directory cannot be read, or the file system has no locks.
void sweep(const Place& place) {
  std::error_code failed;
  for (fs::directory_iterator entry(directory_of(place.file), failed), end; !failed && entry != end;
       entry.increment(failed)) {
    const std::string name = entry->path().filename().string();
    if (!is_temporary(name)) {
      continue;
    }
    const FileDescriptor left(::openat(place.directory.get(), name.c_str(),
                                       O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    struct stat status;
    if (left && ::fstat(left.get(), &status) == 0 && S_ISREG(status.st_mode) && is_old(status) &&
        ::flock(left.get(), LOCK_EX | LOCK_NB) == 0) {
      ::unlinkat(place.directory.get(), name.c_str(), 0);
    }
  }
}

/// Locks a new file for its writer. Returns false if somebody sweeps it away meanwhile, and so
/// holds the lock or has removed the file.
bool lock(int fd) {
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return errno != EWOULDBLOCK;  // a file system without locks, where nobody sweeps
  }
  struct stat status;
  return ::fstat(fd, &status) == 0 && status.st_nlink > 0;
}

/// Makes a file beside `place`, and removes it at the end of its scope unless it has taken the name
/// there.
class Temporary {
 public:
  /// `mode` is the file's permissions, less what umask takes away.
  Temporary(const Place& place, mode_t mode) : place_(place) {
    do {
      name_ = temporary_name(place);
      fd_ = FileDescriptor(::openat(place.directory.get(), name_.c_str(),
                                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
      if (!fd_ && errno != EEXIST) {
        throw_errno("create a file beside", place.file);
      }
    } while (!fd_ || !lock(fd_.get()));
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() {
    if (!kept_) {
      ::unlinkat(place_.directory.get(), name_.c_str(), 0);
    }
  }

  void write(std::initializer_list<std::span<const std::byte>> parts) {
    for (std::span<const std::byte> rest : parts) {
      while (!rest.empty()) {
        const ssize_t written = ::write(fd_.get(), rest.data(), rest.size());
        if (written < 0 && errno != EINTR) {
          throw_errno("write", place_.file);
        }
        rest = rest.subspan(static_cast<std::size_t>(std::max<ssize_t>(written, 0)));
      }
    }
  }

  /// Takes over owner, group and permissions of the file to be replaced. If the group cannot be
  /// had, the new file's group is permitted no more than everybody was.
  void resemble(const struct statx& old) {
    mode_t mode = old.stx_mode & 0777;
    if (::fchown(fd_.get(), old.stx_uid, old.stx_gid) != 0 &&
        ::fchown(fd_.get(), static_cast<uid_t>(-1), old.stx_gid) != 0) {
      mode &= ~mode_t{070} | (mode & 07) << 3;
    }
    if (::fchmod(fd_.get(), mode) != 0) {
      throw_errno("give its permissions to a file beside", place_.file);
    }
  }

  /// Flushes the file to the disk.
  void flush() {
    if (::fsync(fd_.get()) != 0) {
      throw_errno("write", place_.file);
    }
  }

  /// Renames it to the place's name, which it has on the disk when this returns.
  void take_the_name() {
    if (!renamed(0)) {
      throw_errno("replace", place_.file);
    }
    keep();
  }

  /// Renames it as take_the_name does, but only if the name is free. Returns whether it was.
  bool take_a_free_name() {
    if (renamed(RENAME_NOREPLACE)) {
      keep();
      return true;
    }
    if (errno == EEXIST) {
      return false;
    }
    if (errno != EINVAL && errno != ENOSYS) {
      throw_errno("create", place_.file);
    }
    // The file system has no renames that spare an existing file: an empty file keeps the name
    // meanwhile.
    const int directory = place_.directory.get();
    const FileDescriptor keeper(::openat(directory, place_.name.c_str(),
                                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                                         0666));
    if (!keeper && errno == EEXIST) {
      return false;
    }
    if (!keeper || !renamed(0)) {
      const int error = errno;
      if (keeper) {
        ::unlinkat(directory, place_.name.c_str(), 0);
      }
      errno = error;
      throw_errno("create", place_.file);
    }
    keep();
    return true;
  }

 private:
  bool renamed(unsigned flags) {
    const int directory = place_.directory.get();
    return ::renameat2(directory, name_.c_str(), directory, place_.name.c_str(), flags) == 0;
  }

  void keep() {
    kept_ = true;
    // Makes the rename itself last. Some file systems cannot flush a directory; the file is whole.
    const FileDescriptor readable(
        ::openat(place_.directory.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (readable) {
      ::fsync(readable.get());
    }
  }

  const Place& place_;
  std::string name_;
  FileDescriptor fd_;
  bool kept_ = false;
};

/// Returns the permissions that a temporary file is made with: the user's alone where it will
/// replace a file, until it resembles that one; else everybody's, less what umask takes away.
mode_t first_mode(const std::optional<struct statx>& old) {
  return old ? 0600 : 0666;
}

}  // namespace

void write_atomically(const fs::path& file,
                      std::initializer_list<std::span<const std::byte>> parts) {
  const Place place = place_of(without_links(file));
  const std::optional<struct statx> old = status_of(place);
  if (old) {
    require_replaceable(place, *old);
  }
  sweep(place);
  Temporary temporary(place, first_mode(old));
  temporary.write(parts);
  if (old) {
    temporary.resemble(*old);
  }
  temporary.flush();
  temporary.take_the_name();
}

void require_replaceable(const fs::path& file) {
  const Place place = place_of(without_links(file));
  const std::optional<struct statx> old = status_of(place);
  if (old) {
    require_replaceable(place, *old);
  }
  const Temporary temporary(place, first_mode(old));
}

bool create_atomically(const fs::path& file,
                       std::initializer_list<std::span<const std::byte>> parts) {
  const Place place = place_of(file);
  sweep(place);
  Temporary temporary(place, 0666);
  temporary.write(parts);
  temporary.flush();
  return temporary.take_a_free_name();
}

}  // namespace syncbn
