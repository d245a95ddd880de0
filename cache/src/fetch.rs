//! Bytes that are not here: one request for each range whoever waits for it (single-flight),
//! delivered to the readers as they arrive and stored behind their backs.
//!
//! ```text
//!   reader - plan (lock) -> flights under way + new ones - wait for *its* bytes -> reply
//!                                     |
//!   flight task:  remote.read -> chunk -> readers woken -> reserve room -> store (lock)
//! ```
//!
//! A flight keeps its bytes until its last reader has gone, so a read ends although nothing could
//! be stored. A flight that fails tells all who wait; each decides anew.

use crate::error::{Error, ErrorKind, Result};
use crate::file::{Content, File};
use crate::limits;
use crate::vfs::Vfs;
use bytes::Bytes;
use covefs_remote::attempt::in_background;
use covefs_remote::{ErrorKind as RemoteKind, Remote, Version};
use futures_util::StreamExt;
use futures_util::future::select_all;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

/// One request for a range of one version, of a content that had begun again so often: what began
/// before is dropped, though the mark be the same (S5).
pub(crate) struct Flight {
    pub range: Range<u64>,
    pub version: Version,
    begun: u64,
    state: Mutex<Landed>,
    arrived: Notify,
    /// Somebody waits for what was only guessed.
    wanted: Notify,
}

#[derive(Default)]
struct Landed {
    chunks: Vec<Bytes>,
    bytes: u64,
    done: Option<std::result::Result<(), RemoteKind>>,
}

impl Flight {
    fn new(range: Range<u64>, version: Version, begun: u64) -> Self {
        let (arrived, wanted) = (Notify::new(), Notify::new());
        Flight { range, version, begun, state: Mutex::default(), arrived, wanted }
    }

    /// Whether its bytes are the content's.
    pub(crate) fn is_of(&self, content: &Content) -> bool {
        Some(self.version) == content.base && self.begun == content.begun
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Landed> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until the bytes below `end` are here, or none come any more.
    async fn wait(&self, end: u64) -> std::result::Result<(), RemoteKind> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            {
                let landed = self.lock();
                if self.range.start + landed.bytes >= end {
                    return Ok(());
                }
                if let Some(done) = landed.done {
                    return done.and(Err(RemoteKind::VersionChanged));
                }
            }
            arrived.await;
        }
    }

    /// Whether all bytes of `range` are here.
    pub(crate) fn has_landed(&self, range: &Range<u64>) -> bool {
        self.range.start <= range.start && self.range.start + self.lock().bytes >= range.end
    }

    /// Copies landed bytes of `range` to `out`, which stands for `at..`.
    pub(crate) fn copy(&self, range: &Range<u64>, at: u64, out: &mut [u8]) {
        let landed = self.lock();
        let mut start = self.range.start;
        for chunk in &landed.chunks {
            let end = start + chunk.len() as u64;
            let from = range.start.max(start);
            let to = range.end.min(end);
            if from < to {
                let part = &chunk[(from - start) as usize..(to - start) as usize];
                out[(from - at) as usize..(to - at) as usize].copy_from_slice(part);
            }
            start = end;
        }
    }

    fn land(&self, chunk: Bytes) {
        let mut landed = self.lock();
        landed.bytes += chunk.len() as u64;
        landed.chunks.push(chunk);
        drop(landed);
        self.arrived.notify_waiters();
    }

    fn finish(&self, how: std::result::Result<(), RemoteKind>) {
        self.lock().done = Some(how);
        self.arrived.notify_waiters();
    }
}

/// Whether somebody waits for the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// A reader does.
    Now,
    /// They are guessed, or part of a hydration.
    Ahead,
}

/// Who reads, when the share no longer has the version that the bytes are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reader {
    /// Follows the file to its new version.
    User,
    /// A step of the sync, which finds out itself what became of the base. It must not wait for
    /// the change under way: that is itself.
    Sync,
}

impl Vfs {
    /// Reads a range of a content, fetching what is not here; ends at the size (R3).
    pub(crate) async fn read_content(
        &self,
        file: &Arc<File>,
        offset: u64,
        len: u64,
        reader: Reader,
    ) -> Result<Vec<u8>> {
        let deadline = Instant::now() + self.config.timeout;
        let mut moved = 0;
        loop {
            let wanted = file.lock().base;
            let error = match self.read_once(file, offset, len).await? {
                Ok(bytes) => return Ok(bytes),
                Err(kind) => kind,
            };
            match error {
                RemoteKind::VersionChanged | RemoteKind::NotFound if reader == Reader::Sync => {
                    if moved > 0 {
                        return Err(Error::new(ErrorKind::Stale, "read the base of an upload"));
                    }
                    // A flight that it joined may have begun before a rename of ours.
                    moved += 1;
                }
                RemoteKind::VersionChanged | RemoteKind::NotFound if Instant::now() < deadline => {
                    moved += 1;
                    let ours = self.is_changing(file.node());
                    if ours || moved > limits::READ_TRIES {
                        tokio::time::sleep(limits::BUSY).await;
                    }
                    if !ours {
                        self.follow_version(file, error, wanted).await?;
                    }
                }
                RemoteKind::Busy if Instant::now() < deadline => {
                    tokio::time::sleep(limits::BUSY).await;
                }
                kind if kind.is_offline() => {
                    self.reach.failed(kind);
                    if !self.reach.wait_online(deadline).await {
                        return Err(Error::new(ErrorKind::Offline, "read bytes that are not here"));
                    }
                }
                kind => {
                    let error = covefs_remote::Error::new(kind, "fetch", &self.path_of(file));
                    return Err(error.into());
                }
            }
        }
    }

    /// Whether a change of ours is about to become the version that counts, or may have.
    fn is_changing(&self, ino: crate::attr::Ino) -> bool {
        self.sync.is_under_way(ino) || self.journal.live(|live| live.sent.contains_key(&ino))
    }

    /// One try: plan, wait, put together. The inner error is the share's.
    async fn read_once(
        &self,
        file: &Arc<File>,
        offset: u64,
        len: u64,
    ) -> Result<std::result::Result<Vec<u8>, RemoteKind>> {
        let (range, flights) = {
            let mut content = file.lock();
            let end = content.size.min(offset.saturating_add(len));
            let range = offset.min(end)..end;
            let missing = content.present.missing(&range);
            if !missing.is_empty() && content.base.is_none() {
                return Err(Error::new(ErrorKind::Io, "read bytes that nobody has"));
            }
            let mut flights = Vec::new();
            for part in missing {
                flights.extend(self.flights_for(file, &mut content, &part, Wanted::Now));
            }
            (range, flights)
        };
        for flight in &flights {
            let end = flight.range.end.min(range.end);
            if let Err(kind) = flight.wait(end).await {
                return Ok(Err(kind));
            }
        }
        self.assemble(file, &range, &flights)
    }

    /// Puts present bytes and landed ones together; bytes of ours win over landed ones.
    fn assemble(
        &self,
        file: &Arc<File>,
        range: &Range<u64>,
        flights: &[Arc<Flight>],
    ) -> Result<std::result::Result<Vec<u8>, RemoteKind>> {
        for last in 0..=limits::READ_TRIES {
            let content = file.lock();
            let range = range.start..range.end.min(content.size).max(range.start);
            let missing = content.present.missing(&range);
            let stale = flights.iter().any(|flight| !flight.is_of(&content));
            if stale && !missing.is_empty() {
                // It began again meanwhile: no mixture (R2).
                return Ok(Err(RemoteKind::Busy));
            }
            let mut out = Vec::with_capacity((range.end - range.start) as usize);
            let punches = file.punches.load(Ordering::SeqCst);
            if missing.first() == Some(&range) {
                // Nothing of it is in the data file.
                out.resize((range.end - range.start) as usize, 0);
                drop(content);
            } else if last == limits::READ_TRIES {
                file.read_data(&range, &mut out)?;
                drop(content);
            } else {
                drop(content);
                file.read_data(&range, &mut out)?;
                if file.punches.load(Ordering::SeqCst) != punches {
                    continue;
                }
            }
            for part in missing {
                let mut covered = part.start;
                for flight in flights {
                    let piece = part.start.max(flight.range.start)..part.end.min(flight.range.end);
                    if piece.start < piece.end && piece.start <= covered {
                        flight.copy(&piece, range.start, &mut out);
                        covered = covered.max(piece.end);
                    }
                }
                // Evicted between plan and now: nothing was waited for, so ask again.
                if covered < part.end {
                    return Ok(Err(RemoteKind::Busy));
                }
            }
            file.lock().delivered = true;
            return Ok(Ok(out));
        }
        unreachable!("the last try reads under the lock")
    }

    /// The flights that bring `range`, all of which is missing: those under way and new ones.
    pub(crate) fn flights_for(
        &self,
        file: &Arc<File>,
        content: &mut Content,
        range: &Range<u64>,
        wanted: Wanted,
    ) -> Vec<Arc<Flight>> {
        let begin = |flight: &Arc<Flight>| self.launch(file.clone(), flight.clone(), wanted);
        self.plan_flights(content, range, wanted, begin)
    }

    /// The same; `begin` has to begin each new one.
    fn plan_flights(
        &self,
        content: &mut Content,
        range: &Range<u64>,
        wanted: Wanted,
        mut begin: impl FnMut(&Arc<Flight>),
    ) -> Vec<Arc<Flight>> {
        let Some(version) = content.base else { return Vec::new() };
        let mut found = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let current = content
                .flights
                .iter()
                .find(|flight| flight.is_of(content) && flight.range.contains(&at));
            if let Some(flight) = current {
                if wanted == Wanted::Now {
                    flight.wanted.notify_one();
                }
                at = flight.range.end;
                found.push(flight.clone());
                continue;
            }
            let start = at / limits::BLOCK * limits::BLOCK;
            let mut end = range.end.next_multiple_of(limits::BLOCK).min(start + limits::FLIGHT);
            for other in content.flights.iter().filter(|other| other.is_of(content)) {
                if other.range.start > at {
                    end = end.min(other.range.start);
                }
            }
            let end = end.min(content.base_end);
            if end <= at {
                break;
            }
            let flight = Arc::new(Flight::new(start..end, version, content.begun));
            content.flights.push(flight.clone());
            begin(&flight);
            found.push(flight);
            at = end;
        }
        found
    }

    /// Fetches small files ahead whole, several by one request.
    pub(crate) fn fetch_together(&self, files: Vec<Arc<File>>) {
        let mut all = Vec::with_capacity(files.len());
        for file in files {
            let begun = all.len();
            let mut content = file.lock();
            let whole = 0..content.size.min(limits::BLOCK);
            if content.present.missing(&whole).first() == Some(&whole) {
                let begin = |flight: &Arc<Flight>| all.push((file.clone(), flight.clone()));
                self.plan_flights(&mut content, &whole, Wanted::Ahead, begin);
            }
            drop(content);
            if all.len() == begun {
                self.unload_if_idle(&file);
            }
        }
        if all.is_empty() {
            return;
        }
        let vfs = self.arc();
        self.spawn("fetch", async move {
            in_background(vfs.fly_together(&all)).await;
            for (file, flight) in &all {
                // All that did not land in time.
                vfs.landed(file, flight, Err(RemoteKind::Busy));
            }
        });
    }

    /// Brings flights of small files home, each of which has ended then, or failed.
    async fn fly_together(&self, all: &[(Arc<File>, Arc<Flight>)]) {
        let flights: Vec<&Arc<Flight>> = all.iter().map(|(_, flight)| flight).collect();
        let permits = tokio::select! {
            biased;
            permits = self.fetch_permit(Wanted::Ahead, &flights) => permits,
            () = self.reach.wait(false) => return,
        };
        let (mut named, mut asked) = (Vec::new(), Vec::new());
        for (file, flight) in all {
            match self.base_path_of(file) {
                Ok(Some(path)) => {
                    named.push((file, flight));
                    asked.push((path, flight.version));
                }
                // A directory above it may stand elsewhere.
                _ => self.landed(file, flight, Err(RemoteKind::Busy)),
            }
        }
        // One that takes long, for the share may have to fetch it itself, holds up none of the others.
        let read = tokio::time::timeout(limits::TOGETHER, self.remote.read_whole(&asked)).await;
        let mut arrivals = Vec::with_capacity(named.len());
        for ((file, flight), read) in named.into_iter().zip(read.unwrap_or_default()) {
            let bytes = match read {
                Ok(bytes) if bytes.len() as u64 == flight.range.end => bytes,
                Ok(_) => {
                    self.landed(file, flight, Err(RemoteKind::VersionChanged));
                    continue;
                }
                Err(error) => {
                    // A guess has one try, which says nothing of the share: who wants these bytes asks.
                    let is_sure = !error.kind.is_offline() && !error.kind.is_transient();
                    let kind = if is_sure { error.kind } else { RemoteKind::Busy };
                    self.landed(file, flight, Err(kind));
                    continue;
                }
            };
            if !flight.is_of(&file.lock()) {
                self.landed(file, flight, Err(RemoteKind::Busy));
                continue;
            }
            self.metrics.fetched_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            flight.land(bytes.clone());
            arrivals.push((file, flight, vec![bytes]));
        }
        let brought: Vec<_> = arrivals.iter().map(|(file, flight, _)| (*file, *flight)).collect();
        self.store_soon(arrivals, permits).await;
        for (file, flight) in brought {
            self.space.heat().guessed(file.id);
            self.landed(file, flight, Ok(()));
        }
    }

    fn launch(&self, file: Arc<File>, flight: Arc<Flight>, wanted: Wanted) {
        let vfs = self.arc();
        self.spawn("fetch", async move {
            let flying = vfs.fly(&file, &flight, wanted);
            let how = match wanted {
                Wanted::Now => flying.await,
                Wanted::Ahead => in_background(flying).await,
            };
            vfs.landed(&file, &flight, how);
        });
    }

    /// A flight has ended; only the first word on that counts.
    fn landed(
        &self,
        file: &Arc<File>,
        flight: &Arc<Flight>,
        how: std::result::Result<(), RemoteKind>,
    ) {
        {
            let mut content = file.lock();
            let under_way = content.flights.len();
            content.flights.retain(|other| !Arc::ptr_eq(other, flight));
            if content.flights.len() == under_way {
                return;
            }
        }
        if let Err(kind) = how {
            tracing::debug!(?kind, content = file.id.0, range = ?flight.range, "fetch failed");
        }
        flight.finish(how);
        file.changed.notify_waiters();
        self.unload_if_idle(file);
    }

    /// Brings one flight home.
    async fn fly(
        &self,
        file: &Arc<File>,
        flight: &Arc<Flight>,
        wanted: Wanted,
    ) -> std::result::Result<(), RemoteKind> {
        // Those before it may wait for a share that does not answer: not one after the other.
        let only = [flight];
        let permit = tokio::select! {
            biased;
            permit = self.fetch_permit(wanted, &only) => permit,
            () = self.reach.wait(false) => return Err(RemoteKind::Timeout),
        };
        let path = match self.base_path_of(file) {
            Ok(Some(path)) => path,
            Ok(None) => return Err(RemoteKind::NotFound),
            // A directory above it may stand elsewhere: asked again, soon.
            Err(_) => return Err(RemoteKind::Busy),
        };
        let range = flight.range.clone();
        let opened = self.remote.read(&path, range.clone(), &flight.version).await;
        let mut stream = opened.map_err(|error| error.kind)?;
        let mut at = range.start;
        let mut waiting: Vec<Bytes> = Vec::new();
        let mut waiting_bytes = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| error.kind)?;
            if !flight.is_of(&file.lock()) {
                return Err(RemoteKind::Busy);
            }
            self.metrics.fetched_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            waiting_bytes += chunk.len() as u64;
            flight.land(chunk.clone());
            waiting.push(chunk);
            if waiting_bytes >= limits::STORE {
                at = self.store(file, flight, at, std::mem::take(&mut waiting)).await;
                waiting_bytes = 0;
            }
        }
        let end = if wanted == Wanted::Ahead && range.end - range.start <= limits::BLOCK {
            self.store_soon(vec![(file, flight, waiting)], permit).await;
            at + waiting_bytes
        } else {
            self.store(file, flight, at, waiting).await
        };
        if wanted == Wanted::Ahead {
            self.space.heat().guessed(file.id);
        }
        if end < range.end { Err(RemoteKind::VersionChanged) } else { Ok(()) }
    }

    async fn fetch_permit(
        &self,
        wanted: Wanted,
        flights: &[&Arc<Flight>],
    ) -> Vec<OwnedSemaphorePermit> {
        let mut permits = Vec::new();
        if wanted == Wanted::Ahead {
            let is_small =
                |flight: &&Arc<Flight>| flight.range.end - flight.range.start <= limits::SMALL;
            let is_small = flights.iter().all(is_small);
            let guesses = if is_small { &self.small_permits } else { &self.readahead_permits };
            let is_one_block =
                matches!(flights, [one] if one.range.end - one.range.start <= limits::BLOCK);
            let count = if is_small && !is_one_block { 2 } else { 1 };
            let somebody_comes = flights.iter().map(|flight| Box::pin(flight.wanted.notified()));
            tokio::select! {
                biased;
                permit = guesses.clone().acquire_many_owned(count) => permits.extend(permit.ok()),
                _ = select_all(somebody_comes) => {}
            }
            if is_small && !permits.is_empty() {
                return permits;
            }
        }
        permits.extend(self.fetch_permits.clone().acquire_owned().await.ok());
        permits
    }

    /// Stores chunks from `at` on, if there is room; returns where they end.
    async fn store(
        &self,
        file: &Arc<File>,
        flight: &Arc<Flight>,
        at: u64,
        chunks: Vec<Bytes>,
    ) -> u64 {
        let end = at + chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        if chunks.is_empty() {
            return end;
        }
        let (file, flight) = (file.clone(), flight.clone());
        let stored = self.on_disk(move |vfs| vfs.store_now(&file, &flight, at, &chunks));
        if let Err(error) = stored.await {
            tracing::warn!(%error, "fetched bytes are not stored");
        }
        end
    }

    /// The same at once; blocks on the local disk.
    pub(crate) fn store_now(&self, file: &Arc<File>, flight: &Flight, at: u64, chunks: &[Bytes]) {
        let bytes: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        // Without room the readers are served all the same, nothing is stored.
        let Some(_reservation) = self.make_room(bytes + limits::STORE_SLACK) else { return };
        if let Err(error) = self.store_chunks(file, flight, at, chunks) {
            tracing::warn!(%error, "fetched bytes are not stored");
        }
    }

    fn store_chunks(
        &self,
        file: &Arc<File>,
        flight: &Flight,
        at: u64,
        chunks: &[Bytes],
    ) -> Result<()> {
        let joined = if chunks.len() == 1 { chunks[0].clone() } else { chunks.concat().into() };
        let mut offset = at;
        let mut rest = &joined[..];
        while !rest.is_empty() {
            // Pieces end at blocks, so that whole blocks get their checksums.
            let piece = (limits::STORE - offset % limits::STORE).min(rest.len() as u64) as usize;
            let mut content = file.lock();
            file.store_fetched(&mut content, &self.space, flight, offset, &rest[..piece])?;
            drop(content);
            let last = (offset + piece as u64 - 1) / limits::EXTENT;
            for extent in offset / limits::EXTENT..=last {
                let key = (file.id, extent as u32);
                self.space.heat().stored(key, limits::EXTENT as u32);
            }
            rest = &rest[piece..];
            offset += piece as u64;
        }
        self.settle_later(file);
        Ok(())
    }

    /// Fetches all of a content that is not here, and stores what there is room for; for hydration
    /// and for what is edited (D5).
    pub(crate) async fn fetch_all(
        &self,
        file: &Arc<File>,
        reader: Reader,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        let mut at = 0;
        loop {
            let next = {
                let content = file.lock();
                let missing = content.present.missing(&(at.min(content.size)..content.size));
                missing.first().cloned()
            };
            let Some(part) = next else { break };
            progress(part.start);
            let end = part.end.min(part.start + limits::FLIGHT);
            self.read_content(file, part.start, end - part.start, reader).await?;
            at = end;
        }
        // Bytes are delivered before they are stored.
        self.arrivals.hurry();
        self.wait_file(file, |content| content.flights.is_empty()).await;
        Ok(())
    }

    fn path_of(&self, file: &File) -> covefs_remote::RemotePath {
        self.base_path_of(file).ok().flatten().unwrap_or_default()
    }

    fn base_path_of(&self, file: &File) -> Result<Option<covefs_remote::RemotePath>> {
        let mut tree = self.tree();
        let base = tree.get(file.node())?.and_then(|node| node.base);
        if let Some(base) = base
            && self.unsure_above(&mut tree, base.place.parent)?.is_some()
        {
            return Err(Error::new(ErrorKind::Stale, "find the share's path"));
        }
        tree.base_path(file.node())
    }
}
