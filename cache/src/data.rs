//! Reading and writing open files.
//!
//! A hot read is handle, ranges, one pread, reply. A write goes to the data file and the journal
//! and returns; it never waits for the share (J4, J6).

use crate::attr::*;
use crate::error::{Error, ErrorKind, Result};
use crate::fetch::{Flight, Reader, Wanted};
use crate::file::{Content, File};
use crate::handle::FileHandle;
use crate::limits;
use crate::space::Reservation;
use crate::step::{Asked, Need, Step};
use crate::vfs::Vfs;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use tokio::time::Instant;

/// Takes bytes that have come and are not stored yet, if all of the range are such.
fn copy_landed(content: &Content, range: &Range<u64>, out: &mut Vec<u8>) -> bool {
    let covers = |flight: &&Arc<Flight>| flight.is_of(content) && flight.has_landed(range);
    let Some(flight) = content.flights.iter().find(covers) else { return false };
    // Bytes of ours would win over them.
    if content.present.overlaps(range) {
        return false;
    }
    out.resize((range.end - range.start) as usize, 0);
    flight.copy(range, range.start, out);
    true
}

impl Vfs {
    /// Fills `out` (cleared first) with up to `len` bytes at `offset`, fewer only at the file's
    /// end (R3). After `Wait(Need::Bytes(..))` call `read_cold` instead of asking again.
    pub fn read(
        &self,
        asked: Asked,
        fh: Fh,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<Step<()>> {
        out.clear();
        let handle = self.handles.file(fh)?;
        let file = &handle.file;
        for _ in 0..limits::READ_TRIES {
            let (range, punches) = {
                let mut content = file.lock();
                let end = content.size.min(offset.saturating_add(len as u64));
                let range = offset.min(end)..end;
                if !content.present.contains(&range) {
                    if copy_landed(&content, &range, out) {
                        content.delivered = true;
                        drop(content);
                        self.metrics.hit(out.len() as u64);
                        self.was_read(&handle, &range);
                        return Ok(Step::Done(()));
                    }
                    let missing = range.end - range.start;
                    return Ok(Step::Wait(Need::Bytes(file.id, range.start, missing)));
                }
                content.delivered = true;
                (range, file.punches.load(Ordering::SeqCst))
            };
            out.clear();
            file.read_data(&range, out)?;
            if file.punches.load(Ordering::SeqCst) == punches {
                self.metrics.hit(out.len() as u64);
                self.was_read(&handle, &range);
                return Ok(Step::Done(()));
            }
        }
        let _ = asked;
        Ok(Step::Wait(Need::Bytes(file.id, offset, len as u64)))
    }

    /// The same for bytes that have to be fetched first. Ends within the deadline.
    pub async fn read_cold(
        &self,
        _asked: Asked,
        fh: Fh,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>> {
        let handle = self.handles.file(fh)?;
        let end = {
            // Held while it is looked: what another read asks ahead for is on its way then.
            let mut reading = handle.reading();
            let content = handle.file.lock();
            // Its flight may have ended since it was missing.
            let is_here = content.present.contains(&(offset..offset + 1));
            if !is_here && !content.flights.iter().any(|flight| flight.range.contains(&offset)) {
                reading.pattern.missed(offset);
            }
            content.size.min(offset.saturating_add(len as u64))
        };
        self.was_read(&handle, &(offset.min(end)..end));
        let bytes = self.read_content(&handle.file, offset, len as u64, Reader::User).await?;
        self.metrics.missed(bytes.len() as u64);
        Ok(bytes)
    }

    /// Notes a read for recency and readahead.
    fn was_read(&self, handle: &FileHandle, range: &Range<u64>) {
        let file = &handle.file;
        let mut reading = handle.reading();
        let extent = (range.start / limits::EXTENT) as u32;
        if reading.extent.replace(extent) != Some(extent) {
            self.space.heat().used((file.id, extent), self.space.limit());
        }
        // Uploads that make room go first (E1).
        if !self.reach.is_online() || self.sync.is_hurried() {
            return;
        }
        let mut content = file.lock();
        let ahead = reading.pattern.read(range, content.size);
        for part in content.present.missing(&ahead) {
            self.flights_for(file, &mut content, &part, Wanted::Ahead);
        }
    }

    /// Writes at `offset`, or at the end of a file opened to append. All of `data` or an error.
    pub fn write(&self, asked: Asked, fh: Fh, offset: u64, data: &[u8]) -> Result<Step<usize>> {
        let handle = self.writable(fh)?;
        let len = data.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > i64::MAX as u64) {
            return Err(Error::new(ErrorKind::TooLarge, "write past the largest size"));
        }
        if data.is_empty() {
            return Ok(Step::Done(0));
        }
        if handle.mode.sync && !asked.may_block {
            return Ok(Step::Wait(Need::Thread));
        }
        let gap = if handle.mode.append { 0..0 } else { offset..offset };
        let ready = self.ready_to_grow(asked, &handle.file, len, |_| gap.clone())?;
        let (mut content, _reservation) = match ready {
            Step::Done(ready) => ready,
            Step::Wait(need) => return Ok(Step::Wait(need)),
        };
        // The kernel knows the size only as of its last look; the end is known here.
        let offset = if handle.mode.append { content.size } else { offset };
        let now = self.clock.now();
        let (journal, space) = (&self.journal, &self.space);
        handle.file.write(&mut content, journal, space, offset, data, now)?;
        self.was_changed(&handle.file, content)?;
        if handle.mode.sync {
            // Not `fsync`: that may ask to wait, and an append must not be asked for twice.
            self.sync_data(&handle.file)?;
            self.journal.sync()?;
        }
        Ok(Step::Done(data.len()))
    }

    fn writable(&self, fh: Fh) -> Result<Arc<FileHandle>> {
        let handle = self.handles.file(fh)?;
        if !handle.mode.write {
            return Err(Error::new(ErrorKind::BadHandle, "write to a file opened to read"));
        }
        Ok(handle)
    }

    /// Everything a change of a content needs before its lock is kept: room (E1), a durable
    /// "touched" record (J6), no upload in its last round (S1).
    pub(crate) fn ready_to_change<'a>(
        &'a self,
        asked: Asked,
        file: &'a Arc<File>,
        len: u64,
    ) -> Result<Step<(MutexGuard<'a, Content>, Option<Reservation>)>> {
        let bytes = len.next_multiple_of(4096) + limits::STORE_SLACK;
        let reservation = match self.space.reserve(bytes) {
            Some(reservation) => Some(reservation),
            None if len == 0 => None,
            None if !asked.may_block => return Ok(Step::Wait(Need::Space(bytes))),
            None => match self.make_room(bytes) {
                Some(reservation) => Some(reservation),
                None if asked.since.elapsed() > limits::SPACE_WAIT => {
                    return Err(Error::new(ErrorKind::NoSpace, "make room in the cache"));
                }
                None => return Ok(Step::Wait(Need::Space(bytes))),
            },
        };
        let content = file.lock();
        if content.is_held() {
            return Ok(Step::Wait(Need::Unheld(file.id)));
        }
        let ready =
            |content: &Content| content.touched && (content.touch_durable || content.orphan);
        if ready(&content) {
            return Ok(Step::Done((content, reservation)));
        }
        let durable = content.base.is_some() && !content.orphan;
        drop(content);
        if durable && !asked.may_block {
            return Ok(Step::Wait(Need::Thread));
        }
        self.touch(file)?;
        let content = file.lock();
        if content.is_held() || !ready(&content) {
            return Ok(Step::Wait(Need::Unheld(file.id)));
        }
        Ok(Step::Done((content, reservation)))
    }

    /// The same with room for a hole that the change would make up to the end of a range: what may be changed
    /// unseen has none, but zeros (P2).
    fn ready_to_grow<'a>(
        &'a self,
        asked: Asked,
        file: &'a Arc<File>,
        len: u64,
        hole: impl Fn(&Content) -> Range<u64>,
    ) -> Result<Step<(MutexGuard<'a, Content>, Option<Reservation>)>> {
        let mut zeros = 0;
        loop {
            let ready = self.ready_to_change(asked, file, len + zeros)?;
            let Step::Done((content, _)) = &ready else { return Ok(ready) };
            let wanted = if content.unseen {
                let hole = hole(content);
                let new = hole.end.saturating_sub(hole.start.min(content.size));
                content.zeros.total() + new
            } else {
                0
            };
            if wanted <= zeros {
                return Ok(ready);
            }
            if !asked.may_block {
                return Ok(Step::Wait(Need::Thread));
            }
            zeros = wanted;
        }
    }

    /// What every change of bytes or size ends with.
    fn was_changed(&self, file: &Arc<File>, content: MutexGuard<'_, Content>) -> Result<()> {
        let filled = self.fill_unseen(file, content);
        self.settle_later(file);
        filled
    }

    /// Changes the size of an open or closed file.
    pub(crate) fn truncate(&self, asked: Asked, file: &Arc<File>, size: u64) -> Result<Step<()>> {
        if size > i64::MAX as u64 {
            return Err(Error::new(ErrorKind::TooLarge, "set the size"));
        }
        let ready = self.ready_to_grow(asked, file, 0, |_| size..size)?;
        let (mut content, _room) = match ready {
            Step::Done(ready) => ready,
            Step::Wait(need) => return Ok(Step::Wait(need)),
        };
        let lasting = content.has_dirty(&(size..u64::MAX));
        if lasting && !asked.may_block {
            return Ok(Step::Wait(Need::Thread));
        }
        let (journal, space, now) = (&self.journal, &self.space, self.clock.now());
        if lasting {
            file.log_cut(&mut content, journal, size, now)?;
            content = self.journal_first(file, content)?;
        }
        file.truncate(&mut content, journal, space, size, now)?;
        self.was_changed(file, content).map(Step::Done)
    }

    /// Makes the record of a cut or hole durable before bytes of ours go that may be durable: else
    /// a power cut takes them and leaves a journal that has them (J6).
    fn journal_first<'a>(
        &self,
        file: &'a Arc<File>,
        mut content: MutexGuard<'a, Content>,
    ) -> Result<MutexGuard<'a, Content>> {
        content.cutting = true;
        drop(content);
        let synced = self.journal.sync();
        let mut content = file.lock();
        content.cutting = false;
        file.changed.notify_waiters();
        synced.map(|()| content)
    }

    /// Grows, punches or zeroes a range.
    pub fn fallocate(
        &self,
        asked: Asked,
        fh: Fh,
        offset: u64,
        len: u64,
        how: Allocate,
    ) -> Result<Step<()>> {
        let handle = self.writable(fh)?;
        let end = offset.checked_add(len).filter(|end| *end <= i64::MAX as u64);
        let end = end.ok_or_else(|| Error::new(ErrorKind::TooLarge, "allocate"))?;
        if how == Allocate::Reserve {
            // Room is shared with everything else in the cache; there is nothing to set aside.
            return Ok(Step::Done(()));
        }
        let file = &handle.file;
        let hole = |content: &Content| match how {
            Allocate::Punch | Allocate::ZeroKeep => offset..end.min(content.size),
            Allocate::Grow => end..end,
            Allocate::Zero | Allocate::Reserve => offset..end,
        };
        let ready = self.ready_to_grow(asked, file, 0, hole)?;
        let (mut content, _room) = match ready {
            Step::Done(ready) => ready,
            Step::Wait(need) => return Ok(Step::Wait(need)),
        };
        let now = self.clock.now();
        let (journal, space) = (&self.journal, &self.space);
        match how {
            Allocate::Grow if end > content.size => {
                file.truncate(&mut content, journal, space, end, now)?;
            }
            Allocate::Grow | Allocate::Reserve => {}
            Allocate::Zero | Allocate::Punch | Allocate::ZeroKeep => {
                let grow = how == Allocate::Zero;
                let lasting = content.has_dirty(&(offset..end));
                if lasting && !asked.may_block {
                    return Ok(Step::Wait(Need::Thread));
                }
                let hole = file.log_hole(&mut content, journal, offset..end, grow, now)?;
                if lasting {
                    content = self.journal_first(file, content)?;
                }
                file.punch(&mut content, space, hole, now)?;
            }
        }
        self.was_changed(file, content).map(Step::Done)
    }

    /// The next data or hole from `offset` on. What is not here is data: only zeros of ours are
    /// holes (R4).
    pub fn lseek(&self, _asked: Asked, fh: Fh, offset: u64, what: Seek) -> Result<Step<u64>> {
        let handle = self.handles.file(fh)?;
        let content = handle.file.lock();
        if offset >= content.size {
            return Err(Error::new(ErrorKind::NoData, "seek"));
        }
        let rest = offset..content.size;
        let found = match what {
            Seek::Data => content.zeros.missing(&rest).first().map(|data| data.start),
            Seek::Hole => {
                let hole = content.zeros.intersect(&rest).first().map(|hole| hole.start);
                Some(hole.unwrap_or(content.size))
            }
        };
        let found = found.ok_or_else(|| Error::new(ErrorKind::NoData, "seek data"))?;
        Ok(Step::Done(found))
    }

    /// Copies up to `len` bytes between open files; fewer than asked, 0 at the end. Error
    /// `Unsupported` when there is no room to keep what was fetched for it: the caller then reads
    /// and writes.
    pub fn copy_range(
        &self,
        asked: Asked,
        from: Fh,
        from_offset: u64,
        to: Fh,
        to_offset: u64,
        len: u64,
    ) -> Result<Step<u64>> {
        let mut bytes = Vec::new();
        // One block-pool turn copies so much; the caller comes back for the rest.
        let len = len.min(limits::FLIGHT) as usize;
        match self.read(asked, from, from_offset, len, &mut bytes)? {
            Step::Done(()) => {}
            Step::Wait(Need::Bytes(..)) if asked.may_block => {
                return Err(Error::new(ErrorKind::Unsupported, "copy without room"));
            }
            Step::Wait(need) => return Ok(Step::Wait(need)),
        }
        if !asked.may_block {
            return Ok(Step::Wait(Need::Thread));
        }
        Ok(match self.write(asked, to, to_offset, &bytes)? {
            Step::Done(written) => Step::Done(written as u64),
            Step::Wait(need) => Step::Wait(need),
        })
    }

    /// Each close of a descriptor. With `--sync share` waits for the upload.
    pub fn flush(&self, asked: Asked, fh: Fh) -> Result<Step<()>> {
        let handle = self.handles.file(fh)?;
        if !handle.mode.write {
            return Ok(Step::Done(()));
        }
        if handle.file.lock().latched {
            return Err(Error::new(ErrorKind::Io, "close a file whose write failed"));
        }
        self.until_shared(asked, &handle.file)
    }

    /// Makes bytes and names durable here; with `--sync share` waits for the upload too.
    pub fn fsync(&self, asked: Asked, fh: Fh) -> Result<Step<()>> {
        let handle = self.handles.file(fh)?;
        if !asked.may_block {
            return Ok(Step::Wait(Need::Thread));
        }
        let file = &handle.file;
        if file.lock().is_dirty() {
            self.sync_data(file)?;
            file.lock().fsynced = true;
            self.sync.poke(file.node());
        }
        self.journal.sync()?;
        self.until_shared(asked, file)
    }

    fn until_shared(&self, asked: Asked, file: &Arc<File>) -> Result<Step<()>> {
        if !self.config.sync_share || !file.lock().is_dirty() {
            return Ok(Step::Done(()));
        }
        // What has no name any more is never uploaded.
        let node = self.tree().get(file.node())?;
        if node.is_none_or(|node| node.place.is_none()) {
            return Ok(Step::Done(()));
        }
        if asked.since.elapsed() > self.config.timeout {
            return Err(Error::new(ErrorKind::Offline, "wait for the upload; it goes on"));
        }
        Ok(Step::Wait(Need::Uploaded(file.node())))
    }

    /// An fdatasync of the data file between its two records (J6).
    pub(crate) fn sync_data(&self, file: &Arc<File>) -> Result<()> {
        use crate::journal::Record;
        let _one = file.syncing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let dirty = {
            let mut content = file.lock();
            if content.latched {
                return Err(Error::new(ErrorKind::Io, "sync a data file that failed before"));
            }
            if content.touched {
                self.journal.append(&[Record::SyncBegan { content: file.id }])?;
            }
            content.unsynced = false;
            content.logged = Default::default();
            content.touched
        };
        if let Some(data) = file.data(false)?
            && let Err(error) = data.sync_data()
        {
            // After a failed fsync the kernel may have dropped the pages: trust nothing of it.
            file.lock().latched = true;
            return Err(Error::disk("sync a data file", error));
        }
        // Clean bytes too: they are told to the index, and an older file may have had this name.
        if file.data(false)?.is_some() {
            file.sync_name()?;
        }
        if dirty {
            self.journal.append(&[Record::Synced { content: file.id }])?;
        }
        Ok(())
    }

    /// The last close of a handle.
    pub fn release(&self, fh: Fh) {
        let Some(handle) = self.handles.remove_file(fh) else { return };
        let file = &handle.file;
        let dirty = {
            let mut content = file.lock();
            content.handles -= 1;
            content.in_pages -= u32::from(handle.lent.is_none());
            if handle.mode.write {
                content.writers -= 1;
                content.last_change = Some(Instant::now());
            }
            if content.handles == 0 {
                content.delivered = false;
            }
            content.is_dirty()
        };
        file.changed.notify_waiters();
        if handle.lent.is_some() {
            self.was_lent(file);
        }
        if dirty {
            self.sync.poke(file.node());
        }
        self.closed(file);
    }
}
