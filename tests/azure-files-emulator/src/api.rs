//! The calls of the protocol, one file per kind of thing they are about.

mod account;
mod copy;
mod directory;
mod file;
mod handles;
mod lease;
mod links;
mod list;
mod permission;
mod properties;
mod range;
mod rename;
mod share;

use crate::auth::{Access, Account, Target, token};
use crate::call::{Call, Reply, Source};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operation::Operation;
use crate::store::{Node, Share, Store, Tree};
use crate::time::{Clock, Ticks};

/// What a handler works with.
pub struct Context<'a> {
    /// Whose server it is.
    pub account: &'a Account,
    /// How the server behaves.
    pub config: &'a Config,
    /// The server's clock.
    pub clock: &'a Clock,
    /// What the account holds; nobody else has it meanwhile, so each call is one step.
    pub store: &'a mut Store,
    /// What was asked.
    pub call: &'a Call,
    /// What the credentials grant.
    pub access: Access,
}

/// Does what was asked.
pub fn answer(operation: Operation, context: &mut Context<'_>) -> Result<Reply> {
    use Operation as Op;
    match operation {
        Op::ListShares => account::list_shares(context),
        Op::GetServiceProperties => account::get_service_properties(context),
        Op::SetServiceProperties => account::set_service_properties(context),
        Op::GetUserDelegationKey => account::get_user_delegation_key(context),
        Op::CreateShare => share::create(context),
        Op::GetShareProperties => share::get_properties(context),
        Op::SetShareProperties => share::set_properties(context),
        Op::GetShareMetadata => share::get_properties(context),
        Op::SetShareMetadata => share::set_metadata(context),
        Op::DeleteShare => share::delete(context),
        Op::UndeleteShare => share::undelete(context),
        Op::GetShareAcl => share::get_acl(context),
        Op::SetShareAcl => share::set_acl(context),
        Op::GetShareStats => share::get_stats(context),
        Op::SnapshotShare => share::snapshot(context),
        Op::LeaseShare => lease::of_share(context),
        Op::CreatePermission => permission::create(context),
        Op::GetPermission => permission::get(context),
        Op::CreateDirectory => directory::create(context),
        Op::GetDirectory => directory::get_properties(context),
        Op::SetDirectoryProperties => directory::set_properties(context),
        Op::SetDirectoryMetadata => directory::set_metadata(context),
        Op::DeleteDirectory => directory::delete(context),
        Op::ListDirectory => list::list(context),
        Op::RenameDirectory => rename::rename(context, true),
        Op::CreateFile => file::create(context),
        Op::GetFile => file::get(context),
        Op::HeadFile => file::head(context),
        Op::SetFileProperties => file::set_properties(context),
        Op::SetFileMetadata => file::set_metadata(context),
        Op::PutRange => range::put(context),
        Op::ClearRange => range::clear(context),
        Op::PutRangeFromUrl => range::put_from_url(context),
        Op::ListRanges => range::list(context),
        Op::RenameFile => rename::rename(context, false),
        Op::CopyFile => copy::copy(context),
        Op::AbortCopy => copy::abort(context),
        Op::DeleteFile => file::delete(context),
        Op::LeaseFile => lease::of_file(context),
        Op::ListHandles => handles::list(context),
        Op::CloseHandles => handles::close(context),
        Op::CreateSymbolicLink => links::create_symbolic(context),
        Op::GetSymbolicLink => links::get_symbolic(context),
        Op::CreateHardLink => links::create_hard(context),
        // These name no account, and are answered before.
        Op::GetToken | Op::GetMachineToken => Err(Error::new("InvalidUri")),
    }
}

impl Context<'_> {
    /// The moment of a change.
    fn stamp(&self) -> Ticks {
        self.clock.stamp()
    }

    /// The share that is named.
    fn share(&self) -> Result<&Share> {
        self.store.share(self.call.share())
    }

    /// The share that is named, to change.
    fn share_mut(&mut self) -> Result<&mut Share> {
        self.call.refuse_snapshot()?;
        self.store.share_mut(self.call.share())
    }

    /// The tree that is named, as it is or as it was in a snapshot.
    fn tree(&self) -> Result<&Tree> {
        self.share()?.tree_at(self.call.query("sharesnapshot"))
    }

    /// The node that is named, as it is or as it was in a snapshot.
    fn node(&self) -> Result<&Node> {
        let tree = self.tree()?;
        Ok(tree.node(tree.resolve(&self.call.components()?)?))
    }

    /// The file that is named, to read; a lease id that is sent must be right.
    fn file(&self) -> Result<&Node> {
        let tree = self.tree()?;
        let node = tree.node(tree.file(&self.call.components()?)?);
        if self.call.query("sharesnapshot").is_none() {
            node.lease.check_read(self.call.header("x-ms-lease-id"))?;
        }
        Ok(node)
    }

    /// The id of the file that is named, after checks that anything may write to it.
    fn file_to_write(&self) -> Result<u64> {
        self.call.refuse_snapshot()?;
        let share = self.share()?;
        let id = share.tree.file(&self.call.components()?)?;
        share.tree.node(id).check_no_copy()?;
        share.tree.node(id).lease.check_write(self.call.header("x-ms-lease-id"))?;
        share.check_handles(id, false)?;
        Ok(id)
    }

    /// Notes that a node was written to: a broken lease is over.
    fn finish_write(&mut self, id: u64, stamp: Ticks) -> Result<&Node> {
        let node = self.share_mut()?.tree.node_mut(id);
        node.touch(stamp);
        node.lease.written();
        Ok(node)
    }

    /// The node that a source URL names, if the credentials let it be read.
    fn source_node(&self, source: &Source, snapshot: Option<&str>) -> Result<&Node> {
        let missing = || Error::new("CannotVerifyCopySource");
        if source.account != self.account.name {
            return Err(missing());
        }
        self.check_source(source, "r")?;
        let share = self.store.share(&source.share)?;
        let tree = share.tree_at(snapshot)?;
        let found = tree.find(&source.components).ok().flatten();
        Ok(tree.node(found.ok_or_else(|| Error::new("ResourceNotFound"))?))
    }

    /// Whether a source may be used: by the request's own credentials, if they are good for all
    /// of the account, or by a SAS in its URL.
    fn check_source(&self, source: &Source, letters: &str) -> Result<()> {
        let refused = || Error::new("CannotVerifyCopySource").with_status(403);
        if source.query("sig").is_some() {
            let stored = self.store.shares.get(&source.share);
            let target = Target { share: &source.share, stored, path: &source.components };
            let now = self.clock.now();
            let checked =
                self.account.authorize_source(self.call, &source.query, &target, letters, now);
            return checked.map_err(|_| refused());
        }
        if let Some(text) = self.call.header("x-ms-copy-source-authorization") {
            let text = text.strip_prefix("Bearer ").filter(|_| self.call.secure);
            let checked = text.map(|text| token::check(self.account, text, self.clock.now()));
            return checked.and_then(std::result::Result::ok).map(drop).ok_or_else(refused);
        }
        if self.access == Access::All { Ok(()) } else { Err(refused()) }
    }
}
