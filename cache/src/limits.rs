//! Every bound and default, with its reason. Sizes in bytes.

use std::time::Duration;

/// Unit of fetching and of checksums: small enough that a random 4 KiB read fetches 16 bytes per
/// byte asked, large enough that a checksum per block costs nothing.
pub(crate) const BLOCK: u64 = 64 << 10;
/// Unit of recency and eviction: one fdatasync and one hole per 4 MiB freed.
pub(crate) const EXTENT: u64 = 4 << 20;
/// The longest range one request of a fetch asks for; bounds what a flight holds in memory.
pub(crate) const FLIGHT: u64 = 4 << 20;
/// Readahead never runs further ahead than this: 32 MiB keep a 1 Gbit/s line of 250 ms full.
pub(crate) const READAHEAD: u64 = 32 << 20;
/// Fetches under way at once, all files together: 32 flights of 4 MiB bound memory to 128 MiB.
pub(crate) const FLIGHTS: usize = 32;
/// Fetches that nobody waits for under way at once: 32 MiB, a line of 1 Gbit/s and 250 ms. More would
/// only come later each, all of them together, and nothing would be asked for meanwhile.
pub(crate) const READAHEAD_FLIGHTS: usize = 8;
/// What costs a round trip rather than bytes: on 1 Gbit/s a MiB takes 8 ms.
pub(crate) const SMALL: u64 = 1 << 20;
/// Small fetches that nobody waits for under way at once, beside the others: of one block each, at two round
/// trips of 40 ms 800 files a second; larger ones count twice: 32 MiB at most.
pub(crate) const SMALL_FLIGHTS: usize = 64;
/// What a person should look at, in `covefs status`.
pub(crate) const MESSAGES: usize = 100;
/// Small files that were fetched ahead are stored when none came for so long.
pub(crate) const QUIET: Duration = Duration::from_millis(20);
/// They wait no longer, though more come all the time.
pub(crate) const QUIET_LAST: Duration = Duration::from_secs(2);
/// Several small files of one request that take longer are asked for one by one by whoever wants them.
pub(crate) const TOGETHER: Duration = Duration::from_secs(2);
/// Pages of small files that have come and are not stored yet: 64 MiB, half of what flights may hold. With
/// three quarters of them no quiet is waited for.
pub(crate) const ARRIVALS: u32 = 16 << 10;
/// Bytes of such a page.
pub(crate) const ARRIVALS_PAGE: u32 = 4 << 10;
/// Directories whose users may be walking through them; each remembers a few names.
pub(crate) const WALKS: usize = 256;
/// Entries that are fetched ahead at first; doubles to the last.
pub(crate) const WALK_FIRST: usize = 8;
/// Entries that are fetched ahead at most: two rounds of all small fetches.
pub(crate) const WALK_LAST: usize = 64;
/// Directories that are listed ahead of somebody who reads their files: he comes to the next one late.
pub(crate) const WALK_READ: usize = 16;
/// Files fetched ahead take at most this part of the cache: less than is left to what is new.
pub(crate) const WALK_PART: u64 = 16;
/// Bytes of a fetch stored under one hold of a file's lock, so that readers of it wait < 1 ms.
pub(crate) const STORE: u64 = 256 << 10;
/// A steady rewriting of the same bytes tells the journal its time so often.
pub(crate) const TIME_GRAIN: Duration = Duration::from_secs(1);
/// Tries of a read against eviction before it reads under the lock (D2).
pub(crate) const READ_TRIES: usize = 4;
/// Between two tries of a read that lost its bytes to eviction or met a busy share.
pub(crate) const BUSY: Duration = Duration::from_millis(20);

/// UTF-16 units of a name on a share of Windows' rules.
pub(crate) const NAME_UNITS_MAX: usize = 255;
/// UTF-16 units of the longest passing name of ours: `.~covefs-move-`, a CACHEID and a number.
pub(crate) const OUR_NAME_UNITS: usize = 64;
/// Entries below a directory that is moved that are looked at for long paths: about 20 ms.
pub(crate) const LENGTHS: usize = 8 << 10;
/// Nodes and contents that one run can make: 2^40. What run it was is above (J8).
pub(crate) const NUMBER_BITS: u32 = 40;
/// Decoded nodes kept in memory: 16 Ki of about 300 bytes.
pub(crate) const HOT_NODES: usize = 16 << 10;
/// Directories, and names of big ones, whose last verification is remembered.
pub(crate) const DIR_INFOS: usize = 64 << 10;
/// Files whose pages the kernel may keep from one open to the next.
pub(crate) const KERNEL_PAGES: usize = 128 << 10;
/// Lines of listings that the kernel keeps, some 300 bytes each.
pub(crate) const KEPT_LINES: usize = 48 << 10;
/// Deeper trees are refused: Linux stops at 4096 bytes of path, two bytes a name.
pub(crate) const PATH_DEPTH: usize = 2048;
/// Single names that are asked for at a time when a listing lacks them: somebody may have removed
/// thousands.
pub(crate) const STATS: usize = 16;
/// More than so many names that a listing of no one moment lacks are left to the next one: to ask
/// for each would take longer than a listing may.
pub(crate) const STATS_MAX: usize = 64;
/// Directories whose names are held folded: where programs make names now.
pub(crate) const FOLDED_DIRS: usize = 4;
/// Nodes read from the index at once when a directory is listed.
pub(crate) const SCAN: usize = 1024;
/// The same where each is looked at.
pub(crate) const SCAN_STATS: usize = 32;

/// The kernel reads files of so many bytes by itself: below, opening one that way costs more than
/// its reads do.
pub(crate) const LEND: u64 = 64 << 10;
/// Two changes of a file within so long can have the same time: a tick of the slowest kernel is 10 ms.
pub(crate) const FILE_TIME_GRAIN: Duration = Duration::from_millis(20);
/// How often a file that may be changed unseen is looked at.
pub(crate) const UNSEEN_LOOK: Duration = Duration::from_secs(10);

/// Smallest --cache-size: the journal's 16 MiB and a few extents for each reader.
pub const CACHE_FLOOR: u64 = 64 << 20;
/// Evicted beyond what is needed, so that one journal fdatasync serves many writes.
pub(crate) const EVICT_BATCH: u64 = 16 << 20;
/// A writer waits so long for uploads to make room, then gets ENOSPC (E1).
pub(crate) const SPACE_WAIT: Duration = Duration::from_secs(30);
/// Room kept for the file system's own blocks when a write is reserved.
pub(crate) const STORE_SLACK: u64 = 16 << 10;
/// Hundredths of the limit for extents that were used twice; the rest takes what is new.
pub(crate) const PROTECTED_PERCENT: u64 = 80;

/// A temporary name of another site that is not changed for so long by the share's clock is nobody's
/// any more (X2): no upload pauses for a week.
pub(crate) const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);
/// A user's file in transit, for seconds as a rule, is shown under its passing name after so long.
pub(crate) const STRANDED: Duration = Duration::from_secs(24 * 3600);

/// A revalidation that takes longer makes the share count as unreachable (K3).
pub(crate) const REVALIDATE: Duration = Duration::from_secs(2);
/// While the share is out of reach, one probe asks again: first so soon, then ever later.
pub(crate) const PROBE_FIRST: Duration = Duration::from_millis(500);
/// The longest time between two probes.
pub(crate) const PROBE_LAST: Duration = Duration::from_secs(10);
/// Notices to the kernel that may wait; more are dropped, its timeouts are the bound (K2).
pub(crate) const NOTICES: usize = 4096;

/// What the share tells is collected for so long: what belongs together comes as one.
pub(crate) const WATCH_COLLECT: Duration = Duration::from_millis(200);
/// Changes taken in under one hold of the tree's lock; more wait with the share.
pub(crate) const WATCH_BATCH: usize = 4096;
/// A share that stopped telling is asked to go on, first so soon, then ever later.
pub(crate) const WATCH_FIRST: Duration = Duration::from_secs(1);
/// The longest time between two tries of that.
pub(crate) const WATCH_LAST: Duration = Duration::from_secs(60);
/// Directories looked into in one round: what comes meanwhile waits no longer than for these.
pub(crate) const LOOKS: usize = 64;
/// Directories that wait for their round; of more whoever uses them asks.
pub(crate) const LOOKS_WAITING: usize = 4096;
/// Names of a big directory that are asked for one by one; for more it is listed.
pub(crate) const LOOK_NAMES: usize = 16;
/// Between two rounds, or four times what the last one took: a fifth of the time at most.
pub(crate) const LOOK_REST: Duration = Duration::from_millis(800);

/// Uploads at once: three round trips of 40 ms for each small file make 400 a second.
pub(crate) const UPLOADS: usize = 48;
/// Of these of files that are not small: they fill the line, and each has parts in memory.
pub(crate) const BIG_UPLOADS: usize = 4;
/// A file that stays open is uploaded at the latest so long after its oldest dirty byte (S2).
pub(crate) const OPEN_UPLOAD: Duration = Duration::from_secs(60);
/// Bytes of the last round of an upload, sent with writes held (S1).
pub(crate) const HELD_ROUND: u64 = 8 << 20;
/// Rounds of an upload before writes are held whatever is left (S1).
pub(crate) const ROUNDS: usize = 4;
/// First wait after a failed upload; doubles to the last.
pub(crate) const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait after a failed upload.
pub(crate) const RETRY_LAST: Duration = Duration::from_secs(60);

/// A file that another client keeps locked on the share for so long goes up beside it (X3).
pub(crate) const LOCKED: Duration = Duration::from_secs(15 * 60);
/// A lock that lasts so long is no other site that is just replacing the file.
pub(crate) const LOCKED_LONG: Duration = Duration::from_secs(10);
/// Locked files that `status` names; more are counted.
pub(crate) const LOCKED_NAMED: usize = 5;

/// How often dirty data files are synced and what is present reaches the index (J6, D3).
pub(crate) const SETTLE: Duration = Duration::from_secs(2);
/// How often the sum of what data files take is compared with the disk (E2).
pub(crate) const SWEEP: Duration = Duration::from_secs(1800);
/// The index learns of a use of bytes when it is so much later than the last one it knows of.
pub(crate) const USE_GRAIN: Duration = Duration::from_secs(3600);
/// How often all extents are looked at for that, and for what nobody used for long.
pub(crate) const USE_LOOK: Duration = Duration::from_secs(60);
/// Data files held open until they are settled; more are opened again: many systems allow a process
/// 1024 descriptors.
pub(crate) const UNSETTLED_OPEN: usize = 256;
/// Beyond so many files one sync of the whole disk is cheaper than one for each.
pub(crate) const SETTLE_FILES: usize = 16;

/// sled's page cache: the inner nodes of an index of a million files; its default is 1 GiB.
pub(crate) const INDEX_CACHE: u64 = 48 << 20;
/// Room the journal keeps allocated ahead, so that a full disk does not stop it at once (J9).
pub(crate) const JOURNAL_AHEAD: u64 = 16 << 20;
/// The last of it, for records that free space (J9).
pub(crate) const JOURNAL_RESERVE: u64 = 4 << 20;
/// One frame of the journal: what one call changes takes a few KiB, a batch of evictions more.
pub(crate) const JOURNAL_FRAME: u64 = 16 << 20;
/// A smaller log is not worth folding (J3).
pub(crate) const JOURNAL_FOLD_BYTES: u64 = 64 << 20;
/// A log of less than so many times what it stands for is not worth folding (J3).
pub(crate) const JOURNAL_FOLD_RATIO: u64 = 4;
/// Torn ends of the log kept for whoever wants to look; nothing in them was acknowledged.
pub(crate) const JOURNAL_TORN: usize = 2;
