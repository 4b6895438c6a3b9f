"""Why the system refuses to write something, in words."""

import errno

__all__ = ["FULL", "why"]

QUOTA = getattr(errno, "EDQUOT", errno.ENOSPC)
FULL = frozenset({errno.ENOSPC, errno.EFBIG, QUOTA})  # there is no room for what is to be written


def why(error: OSError) -> str:
    """Return in words why the system refused something."""
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    if error.errno == QUOTA:
        return "the quota of this user on that disk is used up"
    if error.errno == errno.EFBIG:
        return "the file would be larger than this process may write (ulimit -f) or the disk allows"
    if error.errno == errno.EROFS:
        return "the disk is read-only"
    return error.strerror or str(error)
