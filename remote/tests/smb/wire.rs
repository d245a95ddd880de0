//! What `remote/src/smb` stands on, asked of the crate and of the server without it.

use crate::samba::{PASSWORD, PLAIN, SECRET, SNAPS, Samba};
use crate::suite::{get, path, put};
use covefs_remote::smb::{Encrypt, SmbConfig, SmbRemote, Spoken};
use covefs_remote::{ErrorKind, Remote};
use smb2::client::connection::Connection;
use smb2::client::session::Session;
use smb2::client::tree::Tree;
use smb2::msg::change_notify::{ChangeNotifyRequest, ChangeNotifyResponse, SMB2_WATCH_TREE};
use smb2::msg::close::CloseRequest;
use smb2::msg::create::{
    CreateDisposition, CreateRequest, CreateResponse, ImpersonationLevel, ShareAccess,
};
use smb2::msg::create_context::{CreateContext, pack_contexts};
use smb2::msg::query_info::InfoType;
use smb2::msg::read::{ReadRequest, ReadResponse};
use smb2::msg::set_info::SetInfoRequest;
use smb2::pack::{Pack, ReadCursor, Unpack};
use smb2::types::flags::FileAccessMask;
use smb2::types::status::NtStatus;
use smb2::types::{Command, FileId, OplockLevel};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

pub const READ: u32 = 0x12_0089;
pub const WRITE: u32 = 0x12_0116;
const DELETE: u32 = 0x11_0080;
pub const SHARE_ALL: u32 = 7;
const SHARE_READ: u32 = 1;

/// A session of the crate's own.
pub struct Raw {
    connection: Connection,
    tree: Tree,
}

impl Raw {
    pub async fn connect(samba: &Samba, share: &str) -> smb2::Result<Raw> {
        let address = format!("127.0.0.1:{}", samba.port);
        let mut connection = Connection::connect(&address, Duration::from_secs(10)).await?;
        connection.negotiate().await?;
        Session::setup(&mut connection, "root", PASSWORD, "TEST").await?;
        let tree = Tree::connect(&mut connection, share).await?;
        Ok(Raw { connection, tree })
    }

    pub async fn ask(&self, command: Command, body: &dyn Pack) -> (NtStatus, Vec<u8>) {
        let frame = self.connection.execute(command, body, Some(self.tree.tree_id)).await.unwrap();
        (frame.header.status, frame.body)
    }

    pub async fn open(&self, name: &str, access: u32, share: u32) -> Result<FileId, NtStatus> {
        self.create(name, access, share, Vec::new()).await
    }

    pub async fn close(&self, file_id: FileId) -> NtStatus {
        self.ask(Command::Close, &CloseRequest { flags: 0, file_id }).await.0
    }

    async fn create(
        &self,
        name: &str,
        access: u32,
        share: u32,
        create_contexts: Vec<u8>,
    ) -> Result<FileId, NtStatus> {
        let request = CreateRequest {
            requested_oplock_level: OplockLevel::None,
            impersonation_level: ImpersonationLevel::Impersonation,
            desired_access: FileAccessMask::new(access),
            file_attributes: 0,
            share_access: ShareAccess(share),
            create_disposition: CreateDisposition::FileOpen,
            create_options: 0,
            name: name.into(),
            create_contexts,
        };
        let (status, body) = self.ask(Command::Create, &request).await;
        match status {
            NtStatus::SUCCESS => {
                Ok(CreateResponse::unpack(&mut ReadCursor::new(&body)).unwrap().file_id)
            }
            refused => Err(refused),
        }
    }

    async fn rename(&self, file_id: FileId, name: &str, replaces: bool) -> NtStatus {
        self.rename_as(10, u8::from(replaces), file_id, name).await
    }

    async fn rename_as(&self, class: u8, flags: u8, file_id: FileId, name: &str) -> NtStatus {
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut buffer = vec![flags, 0, 0, 0];
        buffer.extend([0; 12]);
        buffer.extend((name.len() as u32).to_le_bytes());
        buffer.extend(name);
        let request = SetInfoRequest {
            info_type: InfoType::File,
            file_info_class: class,
            additional_information: 0,
            file_id,
            buffer,
        };
        self.ask(Command::SetInfo, &request).await.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_share_needs_what_we_add_to_the_crate() {
    let Some(samba) = Samba::start() else { return };
    let refused = Raw::connect(&samba, SECRET).await.err().unwrap();
    assert_eq!(refused.status(), Some(NtStatus::ACCESS_DENIED), "the crate can do it itself now");
    let share: crate::suite::Share = Arc::new(samba.remote(SECRET));
    put(&share, "f", b"secret").await;
    assert_eq!(get(&share, "f").await, b"secret");
    assert_eq!(samba.get(SECRET, "f"), b"secret");
}

/// How a share is spoken to; or why not.
async fn spoken(samba: &Samba, share: &str, encrypt: Encrypt) -> Result<Spoken, String> {
    let remote = SmbRemote::new(SmbConfig { encrypt, ..samba.config(share) });
    assert_eq!(remote.spoken(), None);
    match remote.stat(&path("")).await {
        Ok(_) => Ok(remote.spoken().unwrap()),
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
            Err(error.source.unwrap().to_string())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_encrypted_as_it_is_wanted_and_always_signed() {
    let gcm = Some("AES-128-GCM");
    let Some(usual) = Samba::start() else { return };
    let auto = spoken(&usual, PLAIN, Encrypt::Auto).await.unwrap();
    assert_eq!((&*auto.dialect, auto.cipher), ("SMB 3.1.1", gcm));
    assert_eq!(spoken(&usual, PLAIN, Encrypt::Required).await.unwrap().cipher, gcm);
    let off = spoken(&usual, PLAIN, Encrypt::Off).await.unwrap();
    assert_eq!((off.signing, off.cipher), ("AES-128-GMAC", None));
    assert!(spoken(&usual, SECRET, Encrypt::Off).await.unwrap_err().contains("switched off here"));
    let always = Samba::start_with("server smb encrypt = required").unwrap();
    assert_eq!(spoken(&always, PLAIN, Encrypt::Auto).await.unwrap().cipher, gcm);
    assert!(spoken(&always, PLAIN, Encrypt::Off).await.unwrap_err().contains("switched off here"));
    let never = Samba::start_with("server smb encrypt = off").unwrap();
    assert_eq!(spoken(&never, PLAIN, Encrypt::Auto).await.unwrap().cipher, None);
    let refused = spoken(&never, PLAIN, Encrypt::Required).await.unwrap_err();
    assert!(refused.contains("the server has none"), "{refused}");
    let protocol = "server min protocol = SMB3_00\nserver max protocol = SMB3_00";
    let old = Samba::start_with(protocol).unwrap();
    let early = spoken(&old, PLAIN, Encrypt::Auto).await.unwrap();
    assert_eq!((&*early.dialect, early.cipher), ("SMB 3.0", Some("AES-128-CCM")));
    let share: crate::suite::Share = Arc::new(old.remote(PLAIN));
    put(&share, "f", b"secret").await;
    assert_eq!(get(&share, "f").await, b"secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_opened_as_it_was_in_a_snapshot() {
    let Some(samba) = Samba::start() else { return };
    let snapshot = samba.disk(SNAPS).join(".snapshots/@GMT-2020.01.02-03.04.05");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(snapshot.join("f"), "old").unwrap();
    std::fs::write(samba.disk(SNAPS).join("f"), "newer").unwrap();
    let raw = Raw::connect(&samba, SNAPS).await.unwrap();
    // 2020-01-02 03:04:05 UTC in ticks of 100 ns since 1601.
    let ticks = (1_577_934_245_u64 + 11_644_473_600) * 10_000_000;
    let at = CreateContext::new(b"TWrp", ticks.to_le_bytes().to_vec());
    for (contexts, wanted) in [(pack_contexts(&[at]), &b"old"[..]), (Vec::new(), b"newer")] {
        let file_id = raw.create("f", READ, SHARE_ALL, contexts).await.unwrap();
        let request = ReadRequest {
            padding: 0x50,
            flags: 0,
            length: 100,
            offset: 0,
            file_id,
            minimum_count: 0,
            channel: 0,
            remaining_bytes: 0,
            read_channel_info: Vec::new(),
        };
        let (status, body) = raw.ask(Command::Read, &request).await;
        assert_eq!(status, NtStatus::SUCCESS);
        let answer = ReadResponse::unpack(&mut ReadCursor::new(&body)).unwrap();
        assert_eq!(answer.data, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_held_is_moved_but_not_written_taken_or_replaced() {
    // rule X4
    let Some(samba) = Samba::start() else { return };
    for name in ["f", "g"] {
        std::fs::write(samba.disk(PLAIN).join(name), name).unwrap();
    }
    let raw = Raw::connect(&samba, PLAIN).await.unwrap();
    let other = Raw::connect(&samba, PLAIN).await.unwrap();
    let held = raw.open("f", DELETE, SHARE_READ).await.unwrap();
    for access in [WRITE, DELETE] {
        assert_eq!(other.open("f", access, SHARE_ALL).await, Err(NtStatus::SHARING_VIOLATION));
    }
    other.open("f", READ, SHARE_ALL).await.unwrap();
    let ours = raw.open("g", DELETE, SHARE_ALL).await.unwrap();
    assert_eq!(raw.rename(ours, "f", true).await, NtStatus::ACCESS_DENIED);
    // The rename of Windows that could (class 65, "replace if exists" and "POSIX semantics").
    assert_ne!(raw.rename_as(65, 3, ours, "f").await, NtStatus::SUCCESS, "no gap is needed now");
    assert_eq!(raw.rename(held, "aside", false).await, NtStatus::SUCCESS);
    assert_eq!(raw.rename(ours, "f", false).await, NtStatus::SUCCESS);
    assert_eq!(raw.rename(held, "f", false).await, NtStatus::OBJECT_NAME_COLLISION);
    assert_eq!(samba.names(PLAIN), ["aside", "f"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_made_anew() {
    let Some(mut samba) = Samba::start() else { return };
    let share: crate::suite::Share = Arc::new(samba.remote(PLAIN));
    let made = put(&share, "f", b"kept").await;
    let identity = share.identity().await.unwrap();
    for _ in 0..3 {
        samba.kill();
        let away = share.stat(&path("f")).await.unwrap_err();
        assert_eq!(away.kind, ErrorKind::Unreachable, "{away}");
        samba.run();
        assert_eq!(share.stat(&path("f")).await.unwrap().version, made.version);
        assert_eq!(share.identity().await.unwrap(), identity);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_changes_than_a_notification_holds_are_told_as_an_overflow() {
    let Some(samba) = Samba::start() else { return };
    let raw = Raw::connect(&samba, PLAIN).await.unwrap();
    let file_id = raw.open("", READ, SHARE_ALL).await.unwrap();
    let watch = |output_buffer_length| ChangeNotifyRequest {
        flags: SMB2_WATCH_TREE,
        output_buffer_length,
        file_id,
        completion_filter: 1,
    };
    let other: crate::suite::Share = Arc::new(samba.remote(PLAIN));
    // The first answer arms the watch; what comes after it is kept until it is asked for.
    let is_armed = Cell::new(false);
    let arming = async {
        let (status, _) = raw.ask(Command::ChangeNotify, &watch(64 << 10)).await;
        is_armed.set(true);
        status
    };
    let changes = async {
        let mut kept = 0;
        for number in 0.. {
            assert!(number < 10_000, "the watch is never armed");
            kept += usize::from(is_armed.get());
            put(&other, &format!("a-name-of-some-length-{number}"), b"x").await;
            if kept == 40 {
                return;
            }
        }
    };
    let (first, ()) = tokio::join!(arming, changes);
    assert_eq!(first, NtStatus::SUCCESS);
    let (status, body) = raw.ask(Command::ChangeNotify, &watch(100)).await;
    assert_eq!(status, NtStatus::NOTIFY_ENUM_DIR);
    // Read as any other answer it says nothing, which is told as "some were missed" (X7).
    let answer = ChangeNotifyResponse::unpack(&mut ReadCursor::new(&body)).unwrap();
    assert!(answer.output_data.is_empty());
}
