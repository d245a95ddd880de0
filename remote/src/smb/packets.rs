//! Requests as packets: a chain is one, and so is its answer.

use super::fail::{Fail, Outcome};
use super::list::CLASS;
use super::snapshots::Snapshot;
use super::wire::{Answer, Carrier, Op, Open};
use crate::ErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use smb2::client::connection::{CompoundOp, Connection, Frame};
use smb2::msg::change_notify::{ChangeNotifyRequest, ChangeNotifyResponse, SMB2_WATCH_TREE};
use smb2::msg::close::CloseRequest;
use smb2::msg::create::{CreateRequest, CreateResponse, ImpersonationLevel, ShareAccess};
use smb2::msg::flush::FlushRequest;
use smb2::msg::header::Header;
use smb2::msg::ioctl::{IoctlRequest, IoctlResponse, SMB2_0_IOCTL_IS_FSCTL};
use smb2::msg::query_directory::{
    QueryDirectoryFlags, QueryDirectoryRequest, QueryDirectoryResponse,
};
use smb2::msg::query_info::{QueryInfoRequest, QueryInfoResponse};
use smb2::msg::read::ReadRequest;
use smb2::msg::set_info::SetInfoRequest;
use smb2::msg::write::WriteRequest;
use smb2::pack::{Pack, ReadCursor, Unpack};
use smb2::types::flags::FileAccessMask;
use smb2::types::{Command, CreditCharge, FileId, OplockLevel, TreeId};

/// Where the bytes of a READ answer stand in its body, at the earliest.
const READ_BYTES_AT: usize = 16;

/// Bytes that one credit pays for.
const CREDIT_BYTES: u32 = 64 << 10;

/// A connection to a server, with its share.
pub(super) struct Server {
    pub(super) connection: Connection,
    pub(super) tree: TreeId,
    /// The state of the share that is meant.
    pub(super) snapshot: Option<Snapshot>,
}

/// A request, ready to be sent.
struct Packet {
    command: Command,
    body: Box<dyn Pack>,
    /// Bytes that it moves, this way or that.
    bytes: u32,
}

#[async_trait]
impl Carrier for Server {
    async fn carry(&self, ops: Vec<Op>) -> Outcome<Vec<Outcome<Answer>>> {
        let packets: Vec<Packet> = ops.into_iter().map(|op| self.packet(op)).collect();
        let chain: Vec<CompoundOp<'_>> = packets
            .iter()
            .map(|packet| CompoundOp {
                command: packet.command,
                body: &*packet.body,
                tree_id: Some(self.tree),
                credit_charge: CreditCharge(charge(packet.bytes)),
            })
            .collect();
        let came = self.connection.execute_compound(&chain).await?;
        let answers = packets.iter().zip(came).map(|(packet, frame)| {
            let frame = frame?;
            match frame.header.status.is_success_or_partial() {
                true => answer(packet.command, frame),
                false => Err(Fail::from(frame.header.status).with(frame.body)),
            }
        });
        Ok(answers.collect())
    }

    fn is_broken(&self) -> bool {
        self.connection.is_disconnected()
    }

    fn give_up(&self) {
        self.connection.mark_dead();
    }
}

fn charge(bytes: u32) -> u16 {
    u16::try_from(bytes.div_ceil(CREDIT_BYTES).max(1)).unwrap_or(u16::MAX)
}

impl Server {
    fn packet(&self, op: Op) -> Packet {
        let (command, body, bytes): (Command, Box<dyn Pack>, u32) = match op {
            Op::Create { wire, open } => (Command::Create, Box::new(self.create(wire, open)), 0),
            Op::Close(file_id) => (Command::Close, Box::new(CloseRequest { flags: 0, file_id }), 0),
            Op::Flush(file_id) => (Command::Flush, Box::new(FlushRequest { file_id }), 0),
            Op::Query { file, of, class, about, bytes } => {
                let body = QueryInfoRequest {
                    info_type: of,
                    file_info_class: class,
                    output_buffer_length: bytes,
                    additional_information: about,
                    flags: 0,
                    file_id: file,
                    input_buffer: Vec::new(),
                };
                (Command::QueryInfo, Box::new(body), bytes)
            }
            Op::Set { file, of, class, about, buffer } => {
                let body = SetInfoRequest {
                    info_type: of,
                    file_info_class: class,
                    additional_information: about,
                    file_id: file,
                    buffer,
                };
                (Command::SetInfo, Box::new(body), 0)
            }
            Op::Read { file, offset, length } => {
                (Command::Read, Box::new(read(file, offset, length)), length)
            }
            Op::Write { file, offset, data } => {
                let bytes = data.len() as u32;
                (Command::Write, Box::new(write(file, offset, data)), bytes)
            }
            Op::List { file, restarts, bytes } => {
                (Command::QueryDirectory, Box::new(list(file, restarts, bytes)), bytes)
            }
            Op::Notify { file, filter, bytes } => {
                let body = ChangeNotifyRequest {
                    flags: SMB2_WATCH_TREE,
                    output_buffer_length: bytes,
                    file_id: file,
                    completion_filter: filter,
                };
                (Command::ChangeNotify, Box::new(body), bytes)
            }
            Op::Control { file, code, input, bytes } => {
                (Command::Ioctl, Box::new(control(file, code, input, bytes)), bytes)
            }
        };
        Packet { command, body, bytes }
    }

    fn create(&self, name: String, open: Open) -> CreateRequest {
        CreateRequest {
            requested_oplock_level: OplockLevel::None,
            impersonation_level: ImpersonationLevel::Impersonation,
            desired_access: FileAccessMask::new(open.access),
            file_attributes: open.attributes,
            share_access: ShareAccess(open.share),
            create_disposition: open.disposition,
            create_options: open.options,
            name,
            create_contexts: self.snapshot.as_ref().map(Snapshot::context).unwrap_or_default(),
        }
    }
}

fn list(file_id: FileId, restarts: bool, bytes: u32) -> QueryDirectoryRequest {
    let flags = if restarts { QueryDirectoryFlags::RESTART_SCANS } else { 0 };
    QueryDirectoryRequest {
        file_information_class: CLASS,
        flags: QueryDirectoryFlags(flags),
        file_index: 0,
        file_id,
        output_buffer_length: bytes,
        file_name: "*".into(),
    }
}

fn control(file_id: FileId, ctl_code: u32, input: Vec<u8>, bytes: u32) -> IoctlRequest {
    IoctlRequest {
        ctl_code,
        file_id,
        max_input_response: 0,
        max_output_response: bytes,
        flags: SMB2_0_IOCTL_IS_FSCTL,
        input_data: input,
    }
}

fn read(file_id: FileId, offset: u64, length: u32) -> ReadRequest {
    ReadRequest {
        padding: 0x50,
        flags: 0,
        length,
        offset,
        file_id,
        minimum_count: 0,
        channel: 0,
        remaining_bytes: 0,
        read_channel_info: Vec::new(),
    }
}

fn write(file_id: FileId, offset: u64, data: Vec<u8>) -> WriteRequest {
    WriteRequest {
        data_offset: 64 + 48,
        offset,
        file_id,
        channel: 0,
        remaining_bytes: 0,
        write_channel_info_offset: 0,
        write_channel_info_length: 0,
        flags: 0,
        data,
    }
}

fn answer(command: Command, frame: Frame) -> Outcome<Answer> {
    let bytes = match command {
        Command::Create => {
            return Ok(Answer::Opened(unpack::<CreateResponse>(&frame)?.file_id));
        }
        Command::QueryInfo => unpack::<QueryInfoResponse>(&frame)?.output_buffer.into(),
        Command::QueryDirectory => unpack::<QueryDirectoryResponse>(&frame)?.output_buffer.into(),
        Command::ChangeNotify => unpack::<ChangeNotifyResponse>(&frame)?.output_data.into(),
        Command::Ioctl => unpack::<IoctlResponse>(&frame)?.output_data.into(),
        Command::Read => read_bytes(frame.body.into())?,
        _ => return Ok(Answer::Done),
    };
    Ok(Answer::Bytes(bytes))
}

fn unpack<T: Unpack>(frame: &Frame) -> Outcome<T> {
    Ok(T::unpack(&mut ReadCursor::new(&frame.body))?)
}

/// The bytes that were read: the very buffer that they came in.
fn read_bytes(body: Bytes) -> Outcome<Bytes> {
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
