// The mount calls that C libraries of supported systems do not have yet, and constants that their headers lack.
#ifndef SKILLSCALE_MOUNTS_H_
#define SKILLSCALE_MOUNTS_H_

#include <fcntl.h>
#include <linux/mount.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace skillscale {

inline int OpenTree(const char* path, unsigned flags) {
  return static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, path, flags));
}

inline bool SetMountAttributes(int fd, const char* path, unsigned flags, uint64_t set, int user_namespace = -1, uint64_t clear = 0) {
  struct {
    uint64_t set, clear, propagation, user_namespace;
  } attributes{set, clear, 0, user_namespace < 0 ? 0 : static_cast<uint64_t>(user_namespace)};
  return syscall(SYS_mount_setattr, fd, path, flags, &attributes, sizeof attributes) == 0;
}

inline bool MoveMount(int mount, const char* path) {
  return syscall(SYS_move_mount, mount, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

inline int OpenFileSystem(const char* type) { return static_cast<int>(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC)); }

inline bool SetString(int context, const char* key, const char* value) {
  return syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, value, 0) == 0;
}

inline bool SetFlag(int context, const char* key) {
  return syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, key, nullptr, 0) == 0;
}

// Makes the file system that was configured; returns a mount that is attached nowhere, or -1.
inline int MakeMount(int context, unsigned attributes) {
  if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0) return -1;
  return static_cast<int>(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes));
}

}  // namespace skillscale

#endif  // SKILLSCALE_MOUNTS_H_
