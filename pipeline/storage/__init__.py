"""Files by name in a local folder, in a bucket or at a web address; retries, deadlines and a local cache."""

from skelpipe.storage.filesystem import Filesystem, LocalFilesystem
from skelpipe.storage.urls import child_url, local_folder, open_file, open_filesystem, shown_url, url_key

__all__ = [
    "Filesystem",
    "LocalFilesystem",
    "child_url",
    "local_folder",
    "open_file",
    "open_filesystem",
    "shown_url",
    "url_key",
]
