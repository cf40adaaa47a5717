"""What a node keeps on disk: its identity, its profile's directories and lock, and one SQLite database.

What may live here: plain synchronous functions over files and SQLite, run on the node's writer thread by
`host.blocking` (inline in the simulator). Time (`now_us`, wall microseconds) and randomness are arguments.
Nothing here knows asyncio, sockets or the wire. May import `base`, `crypto` and `core.trust`.

files.py       private files, atomically; the lock; the seam where tests inject failing system calls
paths.py       the profile's directories, made and checked
identity.py    the identity, made once
database.py    SQLite: transactions, group commit, schema number
migrations.py  the schema
settings.py, peers.py, outbox.py, inbox.py, letters.py    one table group each
retention.py   how long what was read is kept
mailbox.py     the mailbox keys, in a file of their own
generation.py  restored from a backup?
store.py       all of it, opened
"""

from covey.node.storage.database import Database
from covey.node.storage.files import Lock
from covey.node.storage.identity import load_or_create, save
from covey.node.storage.inbox import Inbox, InboxCounts, InboxMessage, Incoming, Stored
from covey.node.storage.letters import Deposit, Letters
from covey.node.storage.mailbox import load_mailbox, save_mailbox
from covey.node.storage.outbox import Draft, Outbox, OutboxMessage, Outcome, Queued
from covey.node.storage.paths import Home, locate, prepare
from covey.node.storage.peers import Applied, Order, Peer, Peers, find_peer
from covey.node.storage.retention import DEFAULT_RETENTION, Retention
from covey.node.storage.settings import Settings
from covey.node.storage.store import Store

__all__ = [
    "DEFAULT_RETENTION",
    "Applied",
    "Database",
    "Deposit",
    "Draft",
    "Home",
    "Inbox",
    "InboxCounts",
    "InboxMessage",
    "Incoming",
    "Letters",
    "Lock",
    "Order",
    "Outbox",
    "OutboxMessage",
    "Outcome",
    "Peer",
    "Peers",
    "Queued",
    "Retention",
    "Settings",
    "Store",
    "Stored",
    "find_peer",
    "load_mailbox",
    "load_or_create",
    "locate",
    "prepare",
    "save",
    "save_mailbox",
]
