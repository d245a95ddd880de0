//! Extended attributes: those of the `user.` namespace that the share keeps, and what covefs says of itself
//! by some of its own.

use crate::attr::{Ino, XattrMode};
use crate::error::{Error, ErrorKind, Result};
use crate::node::Node;
use crate::step::{Asked, Need, Step};
use crate::vfs::Vfs;
use covefs_remote::{Metadata, Remote, XattrRule, Xattrs};
use tokio::time::Instant;

/// Those of ours.
const OURS: &[u8] = b"user.covefs.";

/// The only namespace; the others belong to the system.
const PREFIX: &[u8] = b"user.";

/// Bytes of the longest name, as Linux has it.
const NAME_BYTES_MAX: usize = 255;

/// Ends the name of one that was set or removed here and is not on the share yet, under the rule of Windows: it alone
/// is sent, others may have been set elsewhere meanwhile (X6). No name has it.
const MARK: u8 = 0;

/// What all attributes of one file may take where the rule is that of Windows: less than its 64 KiB, for
/// they go in lists that have to end somewhere.
const WINDOWS_BYTES_MAX: usize = 60_000;

impl Vfs {
    /// The node with its xattrs known, or what to wait for.
    fn with_xattrs(&self, asked: Asked, ino: Ino) -> Result<Step<Node>> {
        let mut tree = self.tree();
        let mut node = tree.need(ino)?;
        let rule = self.remote.limits().xattrs;
        let fresh = |at: Instant| at >= asked.since || at.elapsed() <= self.config.freshness;
        let is_known = match &node.xattrs {
            None => rule == XattrRule::None,
            // No version tells of a change there (Samba's), but that there are none its listing says.
            Some(known) => {
                rule != XattrRule::Windows
                    || known.is_empty() && ino != Ino::ROOT
                    || node.dirty_attrs.xattrs
                    || tree.xattrs_verified(ino).is_some_and(fresh)
            }
        };
        let can_ask = node.base.is_some() && node.place.is_some();
        if !is_known && can_ask && self.reach.is_online() {
            return Ok(Step::Wait(Need::Node(ino)));
        }
        if node.xattrs.is_none() && can_ask && !is_known {
            return Err(Error::new(ErrorKind::Offline, "read the extended attributes"));
        }
        node.xattrs.get_or_insert_default();
        Ok(Step::Done(node))
    }

    /// The value of an extended attribute. `user.covefs.state` says how much of a file is here;
    /// on the root `user.covefs.cache_dir` where its cache lies.
    pub fn getxattr(&self, asked: Asked, ino: Ino, name: &[u8]) -> Result<Step<Vec<u8>>> {
        check_name(name)?;
        if let Some(of_ours) = name.strip_prefix(OURS) {
            return self.our_xattr(ino, of_ours).map(Step::Done);
        }
        let node = match self.with_xattrs(asked, ino)? {
            Step::Done(node) => node,
            Step::Wait(need) => return Ok(Step::Wait(need)),
        };
        let rule = self.remote.limits().xattrs;
        let mut there =
            node.xattrs.into_iter().flatten().filter(|(_, value)| is_there(rule, value));
        let found = there.find(|(known, _)| is_same(rule, known, name));
        let missing = || Error::new(ErrorKind::NoAttribute, "read the extended attribute");
        Ok(Step::Done(found.ok_or_else(missing)?.1))
    }

    fn our_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let missing = Error::new(ErrorKind::NoAttribute, "read the extended attribute");
        let node = self.tree().need(ino)?;
        let text = match name {
            b"state" => self.state_of(&node).to_owned(),
            b"version" => match &node.base {
                Some(base) => format!("{:x}", base.version.object),
                None => return Err(missing),
            },
            b"cache_dir" if ino == Ino::ROOT => {
                self.config.cache_dir.to_string_lossy().into_owned()
            }
            _ => return Err(missing),
        };
        Ok(text.into_bytes())
    }

    /// The names of the extended attributes; ours are left out, so that no copy takes them along.
    pub fn listxattr(&self, asked: Asked, ino: Ino) -> Result<Step<Vec<Vec<u8>>>> {
        let node = match self.with_xattrs(asked, ino)? {
            Step::Done(node) => node,
            Step::Wait(need) => return Ok(Step::Wait(need)),
        };
        let rule = self.remote.limits().xattrs;
        let there = node.xattrs.into_iter().flatten().filter(|(_, value)| is_there(rule, value));
        Ok(Step::Done(there.map(|(name, _)| plain(&name).to_vec()).collect()))
    }

    /// Sets an extended attribute of the `user.` namespace.
    pub fn setxattr(
        &self,
        asked: Asked,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<Step<()>> {
        let rule = self.remote.limits().xattrs;
        self.change_xattr(asked, ino, name, |xattrs, at| {
            let has_one = at.is_some_and(|at| is_there(rule, &xattrs[at].1));
            match (has_one, mode) {
                (true, XattrMode::Create) => {
                    return Err(Error::new(ErrorKind::Exists, "make the extended attribute"));
                }
                (false, XattrMode::Replace) => {
                    return Err(Error::new(ErrorKind::NoAttribute, "set the extended attribute"));
                }
                _ => {}
            }
            match at {
                Some(at) => xattrs[at] = (marked(rule, &xattrs[at].0), value.to_vec()),
                None => xattrs.push((marked(rule, name), value.to_vec())),
            }
            check_fits(rule, xattrs, name, value)
        })
    }

    /// Removes an extended attribute of the `user.` namespace.
    pub fn removexattr(&self, asked: Asked, ino: Ino, name: &[u8]) -> Result<Step<()>> {
        let rule = self.remote.limits().xattrs;
        self.change_xattr(asked, ino, name, |xattrs, at| {
            let missing = || Error::new(ErrorKind::NoAttribute, "remove the attribute");
            let at = at.filter(|at| is_there(rule, &xattrs[*at].1)).ok_or_else(missing)?;
            match rule {
                XattrRule::Windows => xattrs[at] = (marked(rule, &xattrs[at].0), Vec::new()),
                XattrRule::Any | XattrRule::None => drop(xattrs.remove(at)),
            }
            Ok(())
        })
    }

    fn change_xattr(
        &self,
        asked: Asked,
        ino: Ino,
        name: &[u8],
        change: impl FnOnce(&mut Xattrs, Option<usize>) -> Result<()>,
    ) -> Result<Step<()>> {
        self.check_writable()?;
        check_name(name)?;
        if name.starts_with(OURS) {
            return Err(Error::new(ErrorKind::NotPermitted, "set an attribute of covefs"));
        }
        let rule = self.remote.limits().xattrs;
        if rule == XattrRule::None {
            return Err(Error::new(ErrorKind::Unsupported, "set an attribute on this share"));
        }
        let mut node = match self.with_xattrs(asked, ino)? {
            Step::Done(node) => node,
            Step::Wait(need) => return Ok(Step::Wait(need)),
        };
        let mut tree = self.tree();
        // Nothing is lost between: xattrs change under the tree's lock only.
        let now = tree.need(ino)?;
        let mut xattrs = now.xattrs.clone().or(node.xattrs.take()).unwrap_or_default();
        let at = xattrs.iter().position(|(known, _)| is_same(rule, known, name));
        change(&mut xattrs, at)?;
        xattrs.sort();
        let mut node = now;
        node.xattrs = Some(xattrs);
        node.dirty_attrs.xattrs = true;
        node.ctime = self.clock.now();
        self.changed(&mut tree, vec![node], Vec::new(), false)?;
        Ok(Step::Done(()))
    }
}

fn check_name(name: &[u8]) -> Result<()> {
    let is_some = name.starts_with(PREFIX) && name.len() > PREFIX.len();
    if !is_some || name.len() > NAME_BYTES_MAX {
        return Err(Error::new(ErrorKind::Unsupported, "use the extended attribute"));
    }
    Ok(())
}

/// Whether the share takes it: what it would refuse is refused now, while somebody listens.
fn check_fits(rule: XattrRule, all: &Xattrs, name: &[u8], value: &[u8]) -> Result<()> {
    if rule != XattrRule::Windows {
        return Ok(());
    }
    // Names of files in the file system that this comes from: FAT's.
    let is_good = |byte: &u8| matches!(byte, b' '..=b'~') && !br#""*+,/:;<=>?[\]|"#.contains(byte);
    let rest = name.strip_prefix(PREFIX).unwrap_or_default();
    if value.is_empty() || !rest.iter().all(is_good) {
        let op = "set an extended attribute of this name, or without a value, on this share";
        return Err(Error::new(ErrorKind::Unsupported, op));
    }
    match all.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>() {
        ..=WINDOWS_BYTES_MAX => Ok(()),
        _ => Err(Error::new(ErrorKind::NoSpace, "set so much in extended attributes")),
    }
}

fn plain(name: &[u8]) -> &[u8] {
    name.strip_suffix(&[MARK]).unwrap_or(name)
}

fn marked(rule: XattrRule, name: &[u8]) -> Vec<u8> {
    match rule {
        XattrRule::Windows => [plain(name), &[MARK]].concat(),
        XattrRule::Any | XattrRule::None => name.to_vec(),
    }
}

fn is_same(rule: XattrRule, one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (plain(one), plain(other));
    one == other || rule == XattrRule::Windows && one.eq_ignore_ascii_case(other)
}

/// Whether there is an attribute of this value: an empty one, where there can be none, is one that was removed.
fn is_there(rule: XattrRule, value: &[u8]) -> bool {
    rule != XattrRule::Windows || !value.is_empty()
}

/// What of a node's attributes goes to the share, if anything does: all of a new one's.
pub(crate) fn to_send(rule: XattrRule, node: &Node) -> Option<Xattrs> {
    let is_new = node.base.is_none();
    let all = node.xattrs.as_ref().filter(|_| is_new || node.dirty_attrs.xattrs)?;
    if rule == XattrRule::Any {
        return Some(all.clone());
    }
    let sent = all.iter().filter(|(name, value)| match is_new {
        true => !value.is_empty(),
        false => name.ends_with(&[MARK]),
    });
    Some(sent.map(|(name, value)| (plain(name).to_vec(), value.clone())).collect())
}

/// The same attributes, all of them to be sent.
pub(crate) fn marked_all(rule: XattrRule, all: Xattrs) -> Xattrs {
    all.into_iter().map(|(name, value)| (marked(rule, &name), value)).collect()
}

/// A node's attributes by what the share says of it. Where it says no more than that there are some, those that are
/// known stay: without it they are all that anybody has.
pub(crate) fn as_told(rule: XattrRule, known: Option<Xattrs>, told: &Metadata) -> Option<Xattrs> {
    let known = known
        .filter(|known| rule == XattrRule::Windows && told.xattrs.is_none() && !known.is_empty());
    let Some(known) = known else { return told.xattrs.clone() };
    let there = known.into_iter().filter(|(_, value)| is_there(rule, value));
    Some(there.map(|(name, value)| (plain(&name).to_vec(), value)).collect())
}

/// Those of them that the share has not, after they were sent.
pub(crate) fn refused(rule: XattrRule, sent: &Xattrs, there: &Xattrs) -> Vec<String> {
    let is_kept = |(name, value): &&(Vec<u8>, Vec<u8>)| {
        let found = there.iter().find(|(other, _)| is_same(rule, other, name));
        found.map(|(_, value)| value) == Some(value).filter(|value| is_there(rule, value))
    };
    let refused = sent.iter().filter(|one| !is_kept(one));
    refused.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
}
