"""
Backups of all tables, in the archive or, without one, in the object directory.

A backup is Parquet objects named by their content and a manifest that names them, written last: without a
manifest there is no backup. What has not changed since the backup before is named again and does not travel
again. What else must be there to go on, the bundles of what was deployed, is named too.
"""

from marquee.store.backups.export import take_backup
from marquee.store.backups.manifest import Backup, BackupTable, Piece
from marquee.store.backups.restore import Restored, restore
from marquee.store.backups.upkeep import Pruned, Verdict, kept, prune, verify
from marquee.store.backups.vault import Vault

__all__ = [
    "Backup",
    "BackupTable",
    "Piece",
    "Pruned",
    "Restored",
    "Vault",
    "Verdict",
    "kept",
    "prune",
    "restore",
    "take_backup",
    "verify",
]
