//! Connecting to a share. The crate's own (0.39) does not say what the login may do there.

use super::fail::{Fail, Outcome};
use super::wire::access;
use crate::ErrorKind;
use smb2::client::connection::Connection;
use smb2::msg::tree_connect::{TreeConnectRequest, TreeConnectRequestFlags, TreeConnectResponse};
use smb2::pack::{ReadCursor, Unpack};
use smb2::types::flags::ShareFlags;
use smb2::types::status::NtStatus;
use smb2::types::{Command, TreeId};

/// A share, connected.
pub(super) struct Tree {
    pub(super) id: TreeId,
    /// It takes encrypted requests only.
    pub(super) is_encrypted: bool,
    /// Whoever may write anywhere in it, this login may not.
    pub(super) is_read_only: bool,
}

/// Connects to the share of that name.
pub(super) async fn connect(connection: &Connection, share: &str) -> Outcome<Tree> {
    let request = TreeConnectRequest {
        flags: TreeConnectRequestFlags::default(),
        path: format!(r"\\{}\{share}", connection.server_name()),
    };
    let frame = connection.execute(Command::TreeConnect, &request, None).await?;
    match frame.header.status {
        NtStatus::SUCCESS => {}
        NtStatus::BAD_NETWORK_NAME => {
            let kind = Fail::from(NtStatus::BAD_NETWORK_NAME).kind;
            return Err(Fail::saying(kind, format!("the server has no share {share}")));
        }
        refused => return Err(refused.into()),
    }
    let answer = TreeConnectResponse::unpack(&mut ReadCursor::new(&frame.body))?;
    Ok(Tree {
        id: frame.header.tree_id.ok_or(ErrorKind::Protocol)?,
        is_encrypted: answer.share_flags.contains(ShareFlags::ENCRYPT_DATA),
        is_read_only: is_read_only(answer.maximal_access),
    })
}

/// Who may neither write nor add bytes nor files. Nothing at all says a server that does not tell.
fn is_read_only(maximal: u32) -> bool {
    maximal != 0 && maximal & (access::WRITE | access::APPEND) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_write_nothing_is_known_by_his_rights() {
        // All; to change; to read; of a server that is silent about it.
        for (maximal, wanted) in
            [(0x1f_01ff, false), (0x13_01bf, false), (0x12_00a9, true), (0, false)]
        {
            assert_eq!(is_read_only(maximal), wanted, "{maximal:#x}");
        }
    }
}
