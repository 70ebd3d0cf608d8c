"""The default store: one SQLite file for one process."""

from mediagate_server.store.sqlite.connection import connect, migrate
from mediagate_server.store.sqlite.data_folder_errors import DataFolderUnusable
from mediagate_server.store.sqlite.ownership import DataFolderInUse, DataFolderLost
from mediagate_server.store.sqlite.store import SqliteStore

__all__ = [
    "DataFolderInUse",
    "DataFolderLost",
    "DataFolderUnusable",
    "SqliteStore",
    "connect",
    "migrate",
]
