//! Requests: chains of them that go together, and open files that are closed when dropped.
//!
//! What carries them is a matter of its own (`Carrier`): a connection to a server (`packets`), or the
//! system itself, whose calls they are, on a directory of Windows (`folder`).
//!
//! A chain is sent by a task of its own: whoever asked may go away at any moment, and what was
//! opened for him is closed all the same.

use super::fail::{Fail, Outcome};
use super::session::Link;
use crate::ErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use smb2::msg::create::CreateDisposition;
use smb2::msg::query_info::InfoType;
use smb2::types::FileId;
use std::sync::Arc;

/// The file that the chain has opened.
pub(super) const CHAINED: FileId = FileId::SENTINEL;

pub(super) mod access {
    pub(in crate::smb) const READ: u32 = 0x1;
    pub(in crate::smb) const WRITE: u32 = 0x2;
    pub(in crate::smb) const APPEND: u32 = 0x4;
    pub(in crate::smb) const READ_EXTENDED: u32 = 0x8;
    pub(in crate::smb) const WRITE_EXTENDED: u32 = 0x10;
    pub(in crate::smb) const READ_ATTRIBUTES: u32 = 0x80;
    pub(in crate::smb) const WRITE_ATTRIBUTES: u32 = 0x100;
    pub(in crate::smb) const DELETE: u32 = 0x1_0000;
    pub(in crate::smb) const READ_SECURITY: u32 = 0x2_0000;
    pub(in crate::smb) const WRITE_SECURITY: u32 = 0x4_0000;
    pub(in crate::smb) const WRITE_OWNER: u32 = 0x8_0000;
    pub(in crate::smb) const SYNCHRONIZE: u32 = 0x10_0000;
}

pub(super) mod share {
    pub(in crate::smb) const NONE: u32 = 0;
    pub(in crate::smb) const READ: u32 = 0x1;
    pub(in crate::smb) const DELETE: u32 = 0x4;
    pub(in crate::smb) const ALL: u32 = 0x7;
}

pub(super) mod options {
    pub(in crate::smb) const DIRECTORY: u32 = 0x1;
    pub(in crate::smb) const NO_DIRECTORY: u32 = 0x40;
    /// What leads elsewhere is opened itself.
    pub(in crate::smb) const NO_FOLLOW: u32 = 0x20_0000;
}

pub(super) mod class {
    pub(in crate::smb) const BASIC: u8 = 4;
    pub(in crate::smb) const RENAME: u8 = 10;
    pub(in crate::smb) const DISPOSITION: u8 = 13;
    pub(in crate::smb) const ALL: u8 = 18;
    pub(in crate::smb) const END_OF_FILE: u8 = 20;
}

/// One request of a chain.
pub(super) enum Op {
    Create {
        wire: String,
        open: Open,
    },
    Close(FileId),
    Flush(FileId),
    Query {
        file: FileId,
        of: InfoType,
        class: u8,
        about: u32,
        bytes: u32,
    },
    Set {
        file: FileId,
        of: InfoType,
        class: u8,
        about: u32,
        buffer: Vec<u8>,
    },
    Read {
        file: FileId,
        offset: u64,
        length: u32,
    },
    Write {
        file: FileId,
        offset: u64,
        data: Vec<u8>,
    },
    /// The entries of a directory that were not told yet, in the class of `list`.
    List {
        file: FileId,
        restarts: bool,
        bytes: u32,
    },
    /// The changes below a directory since the last time; it waits for one.
    Notify {
        file: FileId,
        filter: u32,
        bytes: u32,
    },
    Control {
        file: FileId,
        code: u32,
        input: Vec<u8>,
        bytes: u32,
    },
}

/// What a request was answered, where it was done.
pub(super) enum Answer {
    Opened(FileId),
    Bytes(Bytes),
    Done,
}

/// What carries requests.
#[async_trait]
pub(super) trait Carrier: Send + Sync {
    /// Makes them in this order, and says what came of each; or what broke, and nothing is known.
    async fn carry(&self, ops: Vec<Op>) -> Outcome<Vec<Outcome<Answer>>>;

    /// Whether nothing more can be asked: another one has to be made.
    fn is_broken(&self) -> bool;

    /// It is.
    fn give_up(&self);
}

/// How an entry is opened.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) access: u32,
    pub(super) share: u32,
    pub(super) options: u32,
    pub(super) disposition: CreateDisposition,
    pub(super) attributes: u32,
}

impl Open {
    /// What is there, whatever others do with it.
    pub(super) fn existing(access: u32) -> Open {
        Open {
            access: access | access::SYNCHRONIZE,
            share: share::ALL,
            options: 0,
            disposition: CreateDisposition::FileOpen,
            attributes: 0,
        }
    }

    /// Something new.
    pub(super) fn new(access: u32, share: u32, options: u32) -> Open {
        let attributes = super::facts::NORMAL * u32::from(options & options::DIRECTORY == 0);
        Open {
            share,
            options,
            attributes,
            disposition: CreateDisposition::FileCreate,
            ..Open::existing(access)
        }
    }

    pub(super) fn op(self, wire: &str) -> Op {
        Op::Create { wire: wire.to_string(), open: self }
    }
}

pub(super) fn close(file: FileId) -> Op {
    Op::Close(file)
}

pub(super) fn flush(file: FileId) -> Op {
    Op::Flush(file)
}

pub(super) fn query(file: FileId) -> Op {
    query_of(file, InfoType::File, class::ALL, 0, 4096)
}

pub(super) fn query_of(file: FileId, of: InfoType, class: u8, about: u32, bytes: u32) -> Op {
    Op::Query { file, of, class, about, bytes }
}

pub(super) fn set(file: FileId, class: u8, buffer: Vec<u8>) -> Op {
    set_of(file, InfoType::File, class, 0, buffer)
}

pub(super) fn set_of(file: FileId, of: InfoType, class: u8, about: u32, buffer: Vec<u8>) -> Op {
    Op::Set { file, of, class, about, buffer }
}

pub(super) fn set_size(file_id: FileId, size: u64) -> Op {
    set(file_id, class::END_OF_FILE, size.to_le_bytes().to_vec())
}

pub(super) fn set_deleted(file_id: FileId) -> Op {
    set(file_id, class::DISPOSITION, vec![1])
}

/// Moves an open file to `wire`.
pub(super) fn rename(file_id: FileId, wire: &str, replaces: bool) -> Op {
    let name: Vec<u8> = wire.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut buffer = vec![0; 20];
    buffer[0] = u8::from(replaces);
    buffer[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&name);
    // Windows wants at least the size of the structure.
    buffer.resize(buffer.len().max(24), 0);
    set(file_id, class::RENAME, buffer)
}

/// Times in ticks and attributes; 0 leaves what is there.
#[derive(Clone, Copy, Default)]
pub(super) struct Basic {
    pub(super) btime: i64,
    pub(super) atime: i64,
    pub(super) mtime: i64,
    pub(super) attributes: u32,
}

pub(super) fn set_basic(file_id: FileId, basic: Basic) -> Op {
    let mut buffer = Vec::with_capacity(40);
    for time in [basic.btime, basic.atime, basic.mtime, 0] {
        buffer.extend_from_slice(&time.to_le_bytes());
    }
    buffer.extend_from_slice(&basic.attributes.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    set(file_id, class::BASIC, buffer)
}

pub(super) fn read(file: FileId, offset: u64, length: u32) -> Op {
    Op::Read { file, offset, length }
}

pub(super) fn write(file: FileId, offset: u64, data: Vec<u8>) -> Op {
    Op::Write { file, offset, data }
}

/// What came back for each request of a chain, and the file that it opened and did not close.
pub(super) struct Answers {
    pub(super) handle: Option<Handle>,
    came: Vec<Option<Outcome<Answer>>>,
}

impl Answers {
    fn take(&mut self, at: usize) -> Outcome<Answer> {
        self.came.get_mut(at).and_then(Option::take).unwrap_or_else(|| {
            Err(Fail::saying(ErrorKind::Protocol, "an answer of a chain is missing"))
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.came.len()
    }

    /// The request was done.
    pub(super) fn done(&mut self, at: usize) -> Outcome<()> {
        self.take(at).map(drop)
    }

    /// What was asked about an entry.
    pub(super) fn facts(&mut self, at: usize) -> Outcome<super::facts::Facts> {
        super::facts::Facts::parse(&self.bytes(at)?)
    }

    /// What was read, or is the answer of a query.
    pub(super) fn bytes(&mut self, at: usize) -> Outcome<Bytes> {
        match self.take(at)? {
            Answer::Bytes(bytes) => Ok(bytes),
            Answer::Opened(_) | Answer::Done => Err(ErrorKind::Protocol.into()),
        }
    }
}

/// An open file; dropped, it is closed behind the caller's back.
pub(super) struct Handle {
    link: Arc<Link>,
    pub(super) id: FileId,
    is_closed: bool,
}

impl Handle {
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Makes requests about it in one packet, in this order.
    pub(super) async fn ask(&self, ops: Vec<Op>) -> Outcome<Answers> {
        self.link.ask(ops).await
    }

    /// The same with a close at its end; its outcome is the last answer.
    pub(super) async fn finish(mut self, mut ops: Vec<Op>) -> Outcome<Answers> {
        ops.push(close(if ops.is_empty() { self.id } else { CHAINED }));
        let mut answers = self.link.ask(ops).await?;
        let last = answers.came.len() - 1;
        self.is_closed = answers.done(last).is_ok();
        Ok(answers)
    }

    pub(super) async fn close(self) {
        // What fails here closes with the connection.
        let _ = self.finish(Vec::new()).await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.is_closed || self.link.carrier.is_broken() {
            return;
        }
        let (link, id) = (self.link.clone(), self.id);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move { link.send(vec![close(id)]).await.map(drop) }));
        }
    }
}

/// What a request does with open files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Open,
    Close,
    Neither,
}

impl Does {
    fn of(op: &Op) -> Does {
        match op {
            Op::Create { .. } => Does::Open,
            Op::Close(_) => Does::Close,
            _ => Does::Neither,
        }
    }
}

impl Link {
    /// Makes requests in one packet, in this order. An answer that says no is no error here, only
    /// in its place.
    pub(super) async fn ask(self: &Arc<Self>, ops: Vec<Op>) -> Outcome<Answers> {
        let link = self.clone();
        // What is opened belongs to the answer: if nobody takes that, it is closed.
        let asked = tokio::spawn(async move { link.send(ops).await });
        match asked.await {
            Ok(answers) => answers,
            Err(error) => Err(Fail::saying(ErrorKind::Io, error.to_string())),
        }
    }

    /// The same by the caller's own hand, who is never dropped: what he asks first goes first.
    pub(super) async fn send(self: Arc<Self>, ops: Vec<Op>) -> Outcome<Answers> {
        let does: Vec<Does> = ops.iter().map(Does::of).collect();
        let came = match self.carrier.carry(ops).await {
            Ok(came) => came,
            Err(fail) => {
                self.note(&fail);
                return Err(fail);
            }
        };
        came.iter().filter_map(|answer| answer.as_ref().err()).for_each(|fail| self.note(fail));
        let mut open: Vec<Handle> = Vec::new();
        for (does, answer) in does.iter().zip(&came) {
            match (does, answer) {
                (Does::Open, Ok(Answer::Opened(id))) => {
                    open.push(Handle { link: self.clone(), id: *id, is_closed: false });
                }
                // What the chain opened last.
                (Does::Close, Ok(_)) => {
                    open.pop().into_iter().for_each(|mut handle| handle.is_closed = true);
                }
                _ => {}
            }
        }
        // Of a chain that opens several, none is anybody's: they are closed.
        let handle = if open.len() == 1 { open.pop() } else { None };
        Ok(Answers { handle, came: came.into_iter().map(Some).collect() })
    }

    /// Opens an entry and asks about it; the open file is the caller's.
    pub(super) async fn open(
        self: &Arc<Self>,
        wire: &str,
        open: Open,
    ) -> Outcome<(Handle, super::facts::Facts)> {
        let mut answers = self.ask(vec![open.op(wire), query(CHAINED)]).await?;
        answers.done(0)?;
        let facts = answers.facts(1)?;
        let handle = answers.handle.ok_or(ErrorKind::Protocol)?;
        Ok((handle, facts))
    }
}
