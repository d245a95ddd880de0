//! Requests: chains of them that go in one packet, and open files that are closed when dropped.
//!
//! A chain is sent by a task of its own: whoever asked may go away at any moment, and what was
//! opened for him is closed all the same.

use super::fail::{Fail, Outcome};
use super::session::Link;
use crate::ErrorKind;
use bytes::Bytes;
use smb2::client::connection::{CompoundOp, Frame};
use smb2::msg::close::CloseRequest;
use smb2::msg::create::{
    CreateDisposition, CreateRequest, CreateResponse, ImpersonationLevel, ShareAccess,
};
use smb2::msg::flush::FlushRequest;
use smb2::msg::header::Header;
use smb2::msg::query_info::{InfoType, QueryInfoRequest, QueryInfoResponse};
use smb2::msg::read::ReadRequest;
use smb2::msg::set_info::SetInfoRequest;
use smb2::msg::write::WriteRequest;
use smb2::pack::{Pack, ReadCursor, Unpack};
use smb2::types::flags::FileAccessMask;
use smb2::types::{Command, CreditCharge, FileId, OplockLevel};
use std::sync::Arc;

/// The file that the chain has opened.
pub(super) const CHAINED: FileId = FileId::SENTINEL;

/// Where the bytes of a READ answer stand in its body, at the earliest.
const READ_BYTES_AT: usize = 16;

/// Bytes that one credit pays for.
const CREDIT_BYTES: u32 = 64 << 10;

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
pub(super) struct Op {
    command: Command,
    body: Body,
    charge: u16,
}

/// What is asked. What opens an entry is told which state of the share is meant when it is sent.
enum Body {
    Create(Box<CreateRequest>),
    Other(Box<dyn Pack>),
}

impl Op {
    fn new(command: Command, body: impl Pack + 'static) -> Op {
        Op { command, body: Body::Other(Box::new(body)), charge: 1 }
    }

    fn paid_for(self, bytes: u32) -> Op {
        let charge = u16::try_from(bytes.div_ceil(CREDIT_BYTES).max(1)).unwrap_or(u16::MAX);
        Op { charge, ..self }
    }
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
        let body = CreateRequest {
            requested_oplock_level: OplockLevel::None,
            impersonation_level: ImpersonationLevel::Impersonation,
            desired_access: FileAccessMask::new(self.access),
            file_attributes: self.attributes,
            share_access: ShareAccess(self.share),
            create_disposition: self.disposition,
            create_options: self.options,
            name: wire.to_string(),
            create_contexts: Vec::new(),
        };
        Op { command: Command::Create, body: Body::Create(Box::new(body)), charge: 1 }
    }
}

pub(super) fn close(file_id: FileId) -> Op {
    Op::new(Command::Close, CloseRequest { flags: 0, file_id })
}

pub(super) fn flush(file_id: FileId) -> Op {
    Op::new(Command::Flush, FlushRequest { file_id })
}

pub(super) fn query(file_id: FileId) -> Op {
    query_of(file_id, InfoType::File, class::ALL, 0, 4096)
}

pub(super) fn query_of(
    file_id: FileId,
    info_type: InfoType,
    file_info_class: u8,
    additional_information: u32,
    output_buffer_length: u32,
) -> Op {
    let body = QueryInfoRequest {
        info_type,
        file_info_class,
        output_buffer_length,
        additional_information,
        flags: 0,
        file_id,
        input_buffer: Vec::new(),
    };
    Op::new(Command::QueryInfo, body).paid_for(output_buffer_length)
}

pub(super) fn set(file_id: FileId, file_info_class: u8, buffer: Vec<u8>) -> Op {
    set_of(file_id, InfoType::File, file_info_class, 0, buffer)
}

pub(super) fn set_of(
    file_id: FileId,
    info_type: InfoType,
    file_info_class: u8,
    additional_information: u32,
    buffer: Vec<u8>,
) -> Op {
    let body =
        SetInfoRequest { info_type, file_info_class, additional_information, file_id, buffer };
    Op::new(Command::SetInfo, body)
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

pub(super) fn read(file_id: FileId, offset: u64, length: u32) -> Op {
    let body = ReadRequest {
        padding: 0x50,
        flags: 0,
        length,
        offset,
        file_id,
        minimum_count: 0,
        channel: 0,
        remaining_bytes: 0,
        read_channel_info: Vec::new(),
    };
    Op::new(Command::Read, body).paid_for(length)
}

pub(super) fn write(file_id: FileId, offset: u64, data: Vec<u8>) -> Op {
    let length = data.len() as u32;
    let body = WriteRequest {
        data_offset: 64 + 48,
        offset,
        file_id,
        channel: 0,
        remaining_bytes: 0,
        write_channel_info_offset: 0,
        write_channel_info_length: 0,
        flags: 0,
        data,
    };
    Op::new(Command::Write, body).paid_for(length)
}

pub(super) fn other(command: Command, body: impl Pack + 'static, bytes: u32) -> Op {
    Op::new(command, body).paid_for(bytes)
}

/// What came back for each request of a chain, and the file that it opened and did not close.
pub(super) struct Answers {
    pub(super) handle: Option<Handle>,
    frames: Vec<Option<Outcome<Frame>>>,
}

impl Answers {
    fn take(&mut self, at: usize) -> Outcome<Frame> {
        self.frames.get_mut(at).and_then(Option::take).unwrap_or_else(|| {
            Err(Fail::saying(ErrorKind::Protocol, "an answer of a chain is missing"))
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// The request was done.
    pub(super) fn done(&mut self, at: usize) -> Outcome<()> {
        self.take(at).map(drop)
    }

    /// What was asked about an entry.
    pub(super) fn facts(&mut self, at: usize) -> Outcome<super::facts::Facts> {
        super::facts::Facts::parse(&self.info(at)?)
    }

    /// The answer of a query.
    pub(super) fn info(&mut self, at: usize) -> Outcome<Vec<u8>> {
        Ok(unpack::<QueryInfoResponse>(&self.take(at)?)?.output_buffer)
    }

    /// The bytes that were read: the very buffer that they came in.
    pub(super) fn bytes(&mut self, at: usize) -> Outcome<Bytes> {
        let body = Bytes::from(self.take(at)?.body);
        let offset = body.get(2).map(|offset| usize::from(*offset));
        let length = body.get(4..).and_then(|rest| rest.first_chunk()).copied();
        let begin = offset.ok_or(ErrorKind::Protocol)?.saturating_sub(Header::SIZE);
        let length = u32::from_le_bytes(length.ok_or(ErrorKind::Protocol)?) as usize;
        match length {
            0 => Ok(Bytes::new()),
            _ if begin < READ_BYTES_AT || body.len() < begin.saturating_add(length) => {
                Err(ErrorKind::Protocol.into())
            }
            _ => Ok(body.slice(begin..begin + length)),
        }
    }

    /// The answer of any other request.
    pub(super) fn body(&mut self, at: usize) -> Outcome<Vec<u8>> {
        Ok(self.take(at)?.body)
    }
}

fn unpack<T: Unpack>(frame: &Frame) -> Outcome<T> {
    Ok(T::unpack(&mut ReadCursor::new(&frame.body))?)
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
        let last = answers.frames.len() - 1;
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
        if self.is_closed || self.link.connection.is_disconnected() {
            return;
        }
        let (link, id) = (self.link.clone(), self.id);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move { link.send(vec![close(id)]).await.map(drop) }));
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
    pub(super) async fn send(self: Arc<Self>, mut ops: Vec<Op>) -> Outcome<Answers> {
        for op in &mut ops {
            if let (Body::Create(create), Some(snapshot)) = (&mut op.body, &self.snapshot) {
                create.create_contexts = snapshot.context();
            }
        }
        let chain: Vec<CompoundOp<'_>> = ops
            .iter()
            .map(|op| CompoundOp {
                command: op.command,
                body: match &op.body {
                    Body::Create(create) => &**create,
                    Body::Other(other) => &**other,
                },
                tree_id: Some(self.tree),
                credit_charge: CreditCharge(op.charge),
            })
            .collect();
        let came = match self.connection.execute_compound(&chain).await {
            Ok(came) => came,
            Err(error) => {
                let fail = Fail::from(error);
                self.note(&fail);
                return Err(fail);
            }
        };
        let mut frames: Vec<Outcome<Frame>> = Vec::with_capacity(came.len());
        for frame in came {
            let frame = match frame {
                Ok(frame) if frame.header.status.is_success_or_partial() => Ok(frame),
                Ok(frame) => Err(Fail::from(frame.header.status).with(frame.body)),
                Err(error) => Err(Fail::from(error)),
            };
            if let Err(fail) = &frame {
                self.note(fail);
            }
            frames.push(frame);
        }
        let mut handle = None;
        if ops[0].command == Command::Create
            && let Ok(frame) = &frames[0]
        {
            let is_closed = ops
                .iter()
                .zip(&frames)
                .any(|(op, frame)| op.command == Command::Close && frame.is_ok());
            let id = unpack::<CreateResponse>(frame)?.file_id;
            handle = (!is_closed).then(|| Handle { link: self.clone(), id, is_closed });
        }
        Ok(Answers { handle, frames: frames.into_iter().map(Some).collect() })
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
